//! The container: which data is the picture, which its alpha, and what is said of them. By the rules of libavif, as
//! Pillow sets it up: a missing `pixi` is forgiven and `clap` is not applied.

use std::borrow::Cow;

use super::boxes::{Head, Parsed, Problem, Reader, damaged};
use super::coded::{self, Coded, Tile};
use super::items::{Item, Meta};
use super::properties::{Colors, Property};
use super::tracks::{self, Track};

#[derive(Debug)]
pub(super) struct Picture<'a> {
    pub width: u32,
    pub height: u32,
    pub color: Coded<'a>,
    pub alpha: Option<Coded<'a>>,
    pub premultiplied: bool,
    /// None where only the coded data says.
    pub colors: Option<Colors>,
    /// As a number of EXIF.
    pub orientation: u32,
}

const AVIF: [u8; 4] = *b"avif";
const AVIS: [u8; 4] = *b"avis";

/// Whether a file is one, as Pillow tells it: by its brands.
pub(in crate::picture::decode) fn is_avif(bytes: &[u8]) -> bool {
    let brands = Reader(bytes).head().ok().filter(|head| head.kind == *b"ftyp").and_then(|head| {
        let length = usize::try_from(head.length?).ok()?;
        bytes.get(8..)?.get(..length.min(bytes.len().saturating_sub(8)))
    });
    match brands.unwrap_or_default().as_chunks().0 {
        [AVIF | AVIS, ..] => true,
        [[b'm', b'i', b'f', b'1'] | [b'm', b's', b'f', b'1'], _, others @ ..] => {
            others.iter().any(|brand| matches!(*brand, AVIF | AVIS))
        }
        _ => false,
    }
}

/// The parts of a file that are needed.
struct Parts<'a> {
    major: [u8; 4],
    meta: Option<Meta<'a>>,
    tracks: Vec<Track>,
}

pub(super) fn read(file: &[u8]) -> Parsed<Picture<'_>> {
    let Parts { major, meta, tracks } = parts(file)?;
    let is_sequence = match major {
        AVIS => true,
        AVIF => false,
        _ => !tracks.is_empty(),
    };
    if is_sequence {
        return of_tracks(file, &tracks);
    }
    match meta {
        Some(meta) => of_items(file, &meta),
        None => damaged("it has no picture"),
    }
}

fn parts(file: &[u8]) -> Parsed<Parts<'_>> {
    let mut rest = Reader(file);
    let (mut brands, mut meta, mut tracks): (&[[u8; 4]], _, _) = (&[], None, None);
    let (mut needs_meta, mut needs_tracks, mut needs_tone_map, mut has_tone_map) = (false, false, false, false);
    while !rest.is_empty() {
        let Head { kind, length } = rest.head()?;
        let is_read = matches!(&kind, b"ftyp" | b"meta" | b"moov");
        let body = match length.map_or(Some(rest.0.len()), |length| usize::try_from(length).ok()) {
            _ if !is_read && length.is_none() => break,
            Some(length) if length <= rest.0.len() => Reader(rest.take(length)?),
            _ if is_read => return damaged("the file is cut off: a box lies behind its end"),
            _ => break,
        };
        if kind != *b"ftyp" && is_read && brands.is_empty() {
            return damaged("its kind is not said first");
        }
        match &kind {
            b"ftyp" => {
                let (found, odd) = body.0.as_chunks();
                let has = |brand: &[u8; 4]| found.iter().enumerate().any(|(n, found)| n != 1 && found == brand);
                if !brands.is_empty() || found.len() < 2 || !odd.is_empty() || !(has(b"avif") || has(b"avis")) {
                    return damaged("its kind is damaged");
                }
                (needs_tone_map, needs_tracks) = (has(b"tmap"), has(b"avis"));
                needs_meta = has(b"avif") || needs_tone_map;
                brands = found;
            }
            b"meta" if meta.is_none() => {
                let found = meta.insert(Meta::read(body)?);
                has_tone_map = found.items().iter().any(|item| item.kind == *b"tmap");
            }
            b"moov" if tracks.is_none() => tracks = Some(tracks::read(body)?),
            b"meta" | b"moov" => return damaged("a box is there twice"),
            _ => {}
        }
        let is_whole = (!needs_meta || meta.is_some()) && (!needs_tracks || tracks.is_some());
        if let [major, ..] = brands
            && is_whole
            && (!needs_tone_map || has_tone_map)
        {
            return Ok(Parts { major: *major, meta, tracks: tracks.unwrap_or_default() });
        }
    }
    damaged("the file is cut off: it has no picture")
}

fn of_tracks<'a>(file: &'a [u8], tracks: &[Track]) -> Parsed<Picture<'a>> {
    let coded = |track: &Track| -> Parsed<Coded<'a>> {
        let Some(config) = track.config() else { return damaged("its AV1 configuration is missing") };
        let data = Cow::Borrowed(track.first(file)?);
        let tile = Tile { data, width: track.width, height: track.height, operating_point: 0, layer: None };
        Ok(Coded { config, tiles: vec![tile], grid: None })
    };
    let Some(color) = tracks.iter().find(|track| track.properties().is_some() && track.auxiliary_for == 0) else {
        return damaged("it has no AV1 track");
    };
    let is_alpha =
        |track: &&Track| track.properties().is_some() && track.may_be_alpha() && track.auxiliary_for == color.id;
    let alpha = tracks.iter().find(is_alpha);
    let properties = color.properties().unwrap_or_default().iter().copied();
    Ok(Picture {
        width: color.width,
        height: color.height,
        color: coded(color)?,
        alpha: alpha.map(coded).transpose()?,
        premultiplied: alpha.is_some_and(|alpha| color.premultiplied_by == alpha.id),
        colors: colors(properties.clone())?,
        orientation: orientation(properties.clone()),
    })
}

fn of_items<'a>(file: &'a [u8], meta: &Meta<'a>) -> Parsed<Picture<'a>> {
    for item in meta.items().iter().filter(|item| !meta.is_passed_over(item)) {
        match meta.size(item) {
            Some((1.., 1..)) => {}
            _ => return damaged("an item has no size"),
        }
    }
    let Some(item) = meta.item(meta.primary).filter(|item| !meta.is_passed_over(item)) else {
        return damaged("its primary item is missing");
    };
    let (width, height) = meta.size(item).unwrap_or_default();
    let color = coded::coded(file, meta, item)?;
    let mut items = meta.items().iter().filter(|item| !meta.is_passed_over(item));
    let alpha_item = items.find(|other| other.auxiliary_for == item.id && meta.is_alpha(other));
    let (alpha, premultiplied) = match (alpha_item, color.grid) {
        (Some(alpha), _) => (Some(coded::coded(file, meta, alpha)?), item.premultiplied_by == alpha.id),
        (None, Some(grid)) => (coded::alpha_of_tiles(file, meta, item, grid)?, false),
        (None, None) => (None, false),
    };
    check_alpha_transforms(meta, item, alpha_item)?;
    let (colors, orientation) = (colors(meta.properties(item))?, orientation(meta.properties(item)));
    Ok(Picture { width, height, color, alpha, premultiplied, colors, orientation })
}

/// None where nothing is said: the coded data has it then.
fn colors(properties: impl Iterator<Item = Property>) -> Parsed<Option<Colors>> {
    let mut said = properties.filter_map(|property| match property {
        Property::Colors(colors) => Some(colors),
        _ => None,
    });
    let first = said.next();
    if said.next().is_some() { damaged("it says its colours twice") } else { Ok(first) }
}

/// As Pillow makes it of the first `irot` and `imir`, whatever EXIF says.
fn orientation(properties: impl Iterator<Item = Property>) -> u32 {
    let (mut angle, mut axis) = (None, None);
    for property in properties {
        match property {
            Property::Rotation(found) => angle = angle.or(Some(found)),
            Property::Mirror(found) => axis = axis.or(Some(found)),
            _ => {}
        }
    }
    match (angle.unwrap_or(0), axis) {
        (0, None) => 1,
        (0, Some(0)) | (2, Some(1)) => 4,
        (0, Some(_)) | (2, Some(_)) => 2,
        (1, None) => 8,
        (1, Some(0)) | (3, Some(1)) => 5,
        (1, Some(_)) | (3, Some(_)) => 7,
        (2, None) => 3,
        _ => 6,
    }
}

/// Where alpha is turned at all, it is as the picture is.
fn check_alpha_transforms(meta: &Meta<'_>, color: &Item, alpha: Option<&Item>) -> Parsed<()> {
    let Some(alpha) = alpha else { return Ok(()) };
    let transforms = |item| {
        let mut found = [None; 3];
        for property in meta.properties(item) {
            let place = match property {
                Property::Aperture(_) => 0,
                Property::Rotation(_) => 1,
                Property::Mirror(_) => 2,
                _ => continue,
            };
            found[place] = found[place].or(Some(property));
        }
        found
    };
    let of_alpha = transforms(alpha);
    if of_alpha != [None; 3] && of_alpha != transforms(color) {
        return Err(Problem::Unsupported("an AVIF picture whose alpha is turned in another way"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of Pillow 13 (`irot_imir_to_exif_orientation` in its `_avif.c`).
    #[test]
    fn rotation_and_mirror_are_an_orientation_of_exif() {
        let number = |angle: Option<u8>, axis: Option<u8>| {
            orientation(angle.map(Property::Rotation).into_iter().chain(axis.map(Property::Mirror)))
        };
        let of_angle = |angle| [None, Some(0), Some(1)].map(|axis| number(angle, axis));
        assert_eq!(of_angle(None), [1, 4, 2]);
        assert_eq!(of_angle(Some(0)), [1, 4, 2]);
        assert_eq!(of_angle(Some(1)), [8, 5, 7]);
        assert_eq!(of_angle(Some(2)), [3, 2, 4]);
        assert_eq!(of_angle(Some(3)), [6, 7, 5]);
    }

    #[test]
    fn a_file_is_told_by_its_brands() {
        assert!(is_avif(b"\0\0\0\x18ftypavif\0\0\0\0mif1miaf"));
        assert!(is_avif(b"\0\0\0\x1Cftypmif1\0\0\0\0mif1avifmiaf"));
        assert!(!is_avif(b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic"));
        assert!(!is_avif(b"\0\0\0\x18ftypheic\0\0\0\0mif1avif"));
        assert!(!is_avif(b"\0\0\0\x14ftypmif1avifmif1"));
        assert!(!is_avif(b"\0\0\0\x0Cftyp"));
    }
}
