//! What PNG's filters (ISO/IEC 15948, 9.2) have made of a row, undone in place.

/// `before`: the row above, undone; `pixel_bytes`: distance to the sample on the left. False for an unknown filter.
pub(super) fn undo(filter: u8, row: &mut [u8], before: &[u8], pixel_bytes: usize) -> bool {
    match filter {
        0 => {}
        1 => left(row, pixel_bytes),
        2 => row.iter_mut().zip(before).for_each(|(sample, up)| *sample = sample.wrapping_add(*up)),
        3 | 4 => match pixel_bytes {
            // Known distances are unrolled.
            1 => left_and_up::<1>(filter, row, before),
            2 => left_and_up::<2>(filter, row, before),
            3 => left_and_up::<3>(filter, row, before),
            4 => left_and_up::<4>(filter, row, before),
            6 => left_and_up::<6>(filter, row, before),
            _ => left_and_up::<8>(filter, row, before),
        },
        _ => return false,
    }
    true
}

fn left(row: &mut [u8], pixel_bytes: usize) {
    for at in pixel_bytes..row.len() {
        row[at] = row[at].wrapping_add(row[at - pixel_bytes]);
    }
}

fn left_and_up<const B: usize>(filter: u8, row: &mut [u8], before: &[u8]) {
    let mut left = [0; B];
    let mut up_left = [0; B];
    let one = |row: &mut [u8], before: &[u8], left: &mut [u8; B], up_left: &mut [u8; B]| {
        for n in 0..row.len().min(B) {
            let up = before[n];
            let guess = if filter == 3 { average(left[n], up) } else { paeth(left[n], up, up_left[n]) };
            row[n] = row[n].wrapping_add(guess);
            left[n] = row[n];
            up_left[n] = up;
        }
    };
    let (pixels, rest) = row.as_chunks_mut::<B>();
    let (above, rest_above) = before.as_chunks::<B>();
    for (pixel, above) in pixels.iter_mut().zip(above) {
        one(pixel, above, &mut left, &mut up_left);
    }
    one(rest, rest_above, &mut left, &mut up_left);
}

fn average(left: u8, up: u8) -> u8 {
    ((u16::from(left) + u16::from(up)) / 2) as u8
}

fn paeth(left: u8, up: u8, up_left: u8) -> u8 {
    let (a, b, c) = (i16::from(left), i16::from(up), i16::from(up_left));
    let (to_left, to_up, to_both) = ((b - c).abs(), (a - c).abs(), (a + b - 2 * c).abs());
    if to_left <= to_up && to_left <= to_both {
        left
    } else if to_up <= to_both {
        up
    } else {
        up_left
    }
}
