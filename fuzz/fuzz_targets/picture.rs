//! Image decoding and preprocessing. Whatever the bytes are: pixels of the right size and range, or an error that is
//! short and printable, within the memory that the picture's size allows.

#![no_main]

use std::sync::OnceLock;

use clipstream::domain::{Decoding, Orientation};
use clipstream::picture::{Preprocess, decode_picture};
use libfuzzer_sys::fuzz_target;

/// 1 megapixel: larger pictures take the same ways, more slowly.
const PIXELS_MAX: u64 = 1 << 20;
const SIDE: usize = 32;

/// OpenCLIP's ways to resize, with and without a background.
fn preprocesses() -> &'static [Preprocess; 4] {
    static ALL: OnceLock<[Preprocess; 4]> = OnceLock::new();
    ALL.get_or_init(|| {
        // A decoder that panics costs its picture and no more (`decode_picture` catches it): say where, and go on.
        // libFuzzer would take it for a crash. A panic that nobody catches still ends the run.
        std::panic::set_hook(Box::new(|panic| eprintln!("panicked: {panic}")));
        let of = |rest: &str| {
            Preprocess::from_json(&format!(r#"{{"size": {SIDE}, {rest}}}"#)).expect("a preprocessing of OpenCLIP's")
        };
        [
            of(r#""resize_mode": "shortest", "interpolation": "bicubic""#),
            of(r#""resize_mode": "shortest", "interpolation": "bilinear""#),
            of(r#""resize_mode": "longest", "interpolation": "bicubic", "fill_color": 127"#),
            of(r#""resize_mode": "squash", "interpolation": "bicubic""#),
        ]
    })
}

// A file. Its last byte says, too: which preprocessing (bits 0 and 1), orientation (bit 2), reduced decoding (bit 3), a
// second model (bit 4); so that any picture is a seed.
fuzz_target!(|data: &[u8]| {
    let Some(&options) = data.last() else { return };
    let orientation = if options & 4 == 0 { Orientation::Ignore } else { Orientation::Apply };
    let decoding = if options & 8 == 0 { Decoding::Exact } else { Decoding::Fast };
    let chosen = |n: u8| preprocesses()[usize::from(n & 3)].clone().with(orientation, decoding);
    let mut models = vec![chosen(options)];
    if options & 16 != 0 {
        models.push(chosen(options.wrapping_add(1)));
    }
    let wanted: Vec<&Preprocess> = models.iter().collect();
    match decode_picture(data, PIXELS_MAX, &wanted) {
        Err(error) => {
            assert!(error.message.chars().count() <= 500, "{}", error.message);
            assert!(!error.message.chars().any(char::is_control), "{:?}", error.message);
        }
        Ok(picture) => {
            assert!(u64::from(picture.width) * u64::from(picture.height) <= PIXELS_MAX);
            for model in wanted {
                let pixels = model.apply(&picture);
                assert_eq!((pixels.height, pixels.width, pixels.data.len()), (SIDE, SIDE, 3 * SIDE * SIDE));
                // (0 - mean) / std to (1 - mean) / std of OpenAI's constants.
                assert!(pixels.data.iter().all(|value| (-1.8..=2.2).contains(value)));
            }
        }
    }
});
