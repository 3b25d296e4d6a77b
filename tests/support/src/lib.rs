//! What the test binaries share: [`qdrant`], the test double of a Qdrant server; [`needs`], what a test may lack; [`services`], real
//! servers of a test's own.

pub mod needs;
pub mod qdrant;
pub mod services;
