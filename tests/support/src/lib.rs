//! What the test binaries share: [`qdrant`], the test double of a Qdrant server, and [`needs`], what a test may lack.

pub mod needs;
pub mod qdrant;
