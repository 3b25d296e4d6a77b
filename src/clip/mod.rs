//! Port: pictures and texts in, unit vectors out.

mod picture;
mod preprocess;
mod tokenize;

pub use picture::{Picture, PictureError, decode_picture};
pub use preprocess::{InvalidPreprocess, Pixels, Preprocess};
pub use tokenize::{Tokenizer, TokenizerError};
