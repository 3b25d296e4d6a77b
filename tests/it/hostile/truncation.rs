use std::sync::Mutex;

use clipstream::domain::PictureReason;
use rayon::prelude::*;

use super::formats::{models, pictures, process};

const PIXELS_MAX: u64 = 8_000_000;

/// A file that ends early, anywhere, is an error with a reason, or the very picture that it would have been.
#[test]
fn files_cut_off_at_every_kilobyte_are_refused_or_whole() {
    let models = models();
    let wrong = Mutex::new(Vec::new());
    let cuts: Vec<(usize, usize)> = pictures()
        .par_iter()
        .map(|(name, bytes)| {
            let whole: Vec<_> = models
                .iter()
                .map(|model| process(bytes, PIXELS_MAX, model).unwrap_or_else(|error| panic!("{name}: {error}")))
                .collect();
            // Small files in 24 steps.
            let step = bytes.len().div_ceil(24).min(1024);
            let (mut refused, mut same) = (0, 0);
            for end in (0..bytes.len()).step_by(step).chain([bytes.len() - 1]) {
                for (model, whole) in models.iter().zip(&whole) {
                    let why = match process(&bytes[..end], PIXELS_MAX, model) {
                        Ok(found) if &found == whole => {
                            same += 1;
                            continue;
                        }
                        // All of a JPEG but its end marker: `fast` reads it with its other decoder.
                        Ok(_) if end + 2 >= bytes.len() && bytes.starts_with(&[0xFF, 0xD8]) => {
                            same += 1;
                            continue;
                        }
                        Ok(_) => "another picture".to_owned(),
                        Err(error) if error.reason != PictureReason::TooLarge => {
                            refused += 1;
                            continue;
                        }
                        Err(error) => error.to_string(),
                    };
                    wrong.lock().unwrap().push(format!("{name} cut at {end} of {}: {why}", bytes.len()));
                }
            }
            (refused, same)
        })
        .collect();
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{wrong:#?}");
    let (refused, same) = cuts.iter().fold((0, 0), |sum, cut| (sum.0 + cut.0, sum.1 + cut.1));
    println!("{refused} cut files refused, {same} whole all the same");
    // The end of a file may be padding, a second frame or a checksum; the picture itself is nearly all of it.
    assert!(refused > 20 * same && refused > 5_000, "{refused} refused, {same} whole");
}
