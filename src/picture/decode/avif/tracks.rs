//! The `moov` box of a sequence: its tracks, as far as the first picture of each.

use super::boxes::{Child, Kind, Parsed, Problem, Reader, damaged};
use super::items;
use super::properties::{self, Config, Property};

/// What a sample entry has before its properties (`VisualSampleEntry`).
const ENTRY_BYTES: usize = 78;

/// A sequence has one of colours and one of alpha.
const TRACKS_MAX: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Track {
    pub id: u32,
    pub width: u32,
    pub height: u32,
    pub auxiliary_for: u32,
    pub premultiplied_by: u32,
    handler: Kind,
    samples: Option<Samples>,
}

#[derive(Debug, Default)]
struct Samples {
    /// Of the first AV1 sample entry.
    properties: Option<Vec<Property>>,
    chunk: Option<u64>,
    has_samples: bool,
    bytes: u64,
}

pub(super) fn read(mut movie: Reader<'_>) -> Parsed<Vec<Track>> {
    let mut tracks = Vec::new();
    while let Some(Child { kind, body }) = movie.child()? {
        if kind == *b"trak" {
            if tracks.len() == TRACKS_MAX {
                return Err(Problem::Unsupported("an AVIF sequence of more than 64 tracks"));
            }
            tracks.push(track(body)?);
        }
    }
    if tracks.is_empty() { damaged("it has no tracks") } else { Ok(tracks) }
}

fn track(mut body: Reader<'_>) -> Parsed<Track> {
    let (mut track, mut has_header) = (Track::default(), false);
    while let Some(Child { kind, body }) = body.child()? {
        match &kind {
            b"tkhd" if has_header => return damaged("a track has two headers"),
            b"tkhd" => {
                has_header = true;
                (track.id, track.width, track.height) = header(body)?;
            }
            b"mdia" => media(body, &mut track)?,
            b"tref" => references(body, &mut track)?,
            _ => {}
        }
    }
    let is_picture = matches!(&track.handler, b"pict" | b"vide" | b"auxv");
    if !has_header || is_picture && (track.width == 0 || track.height == 0) {
        return damaged("a track has no size");
    }
    Ok(track)
}

/// Its number, width and height.
fn header(mut body: Reader<'_>) -> Parsed<(u32, u32, u32)> {
    let id = match body.full()?.0 {
        0 => {
            body.take(8)?;
            let id = body.u32()?;
            body.take(8)?;
            id
        }
        1 => {
            body.take(16)?;
            let id = body.u32()?;
            body.take(12)?;
            id
        }
        _ => return damaged("a box has an unknown version"),
    };
    body.take(52)?;
    Ok((id, body.u32()? >> 16, body.u32()? >> 16))
}

fn references(mut body: Reader<'_>, track: &mut Track) -> Parsed<()> {
    while let Some(Child { kind, mut body }) = body.child()? {
        match &kind {
            b"auxl" => track.auxiliary_for = body.u32()?,
            b"prem" => track.premultiplied_by = body.u32()?,
            _ => {}
        }
    }
    Ok(())
}

fn media(mut body: Reader<'_>, track: &mut Track) -> Parsed<()> {
    while let Some(Child { kind, mut body }) = body.child()? {
        match &kind {
            b"hdlr" => track.handler = items::handler(body)?,
            b"minf" => {
                while let Some(Child { kind, body }) = body.child()? {
                    if kind == *b"stbl" {
                        if track.samples.is_some() {
                            return damaged("a track has two tables of samples");
                        }
                        track.samples = Some(samples(body)?);
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn samples(mut body: Reader<'_>) -> Parsed<Samples> {
    let mut samples = Samples::default();
    while let Some(Child { kind, mut body }) = body.child()? {
        match &kind {
            b"stco" | b"co64" => {
                body.full_of_version_0()?;
                if body.u32()? > 0 && samples.chunk.is_none() {
                    samples.chunk = Some(if kind == *b"co64" { body.u64()? } else { u64::from(body.u32()?) });
                }
            }
            b"stsc" => {
                body.full_of_version_0()?;
                if body.u32()? > 0 {
                    if body.u32()? != 1 {
                        return damaged("the first chunk of a track is missing");
                    }
                    samples.has_samples = body.u32()? > 0;
                }
            }
            b"stsz" => {
                body.full_of_version_0()?;
                let (all, count) = (body.u32()?, body.u32()?);
                samples.bytes = u64::from(if all == 0 && count > 0 { body.u32()? } else { all });
            }
            b"stsd" => samples.properties = description(body)?,
            _ => {}
        }
    }
    Ok(samples)
}

fn description(mut body: Reader<'_>) -> Parsed<Option<Vec<Property>>> {
    if body.full()?.0 > 1 {
        return damaged("a box has an unknown version");
    }
    for _ in 0..body.u32()? {
        match body.child()? {
            Some(Child { kind: [b'a', b'v', b'0', b'1'], mut body }) => {
                body.take(ENTRY_BYTES)?;
                return properties::read(body, true).map(Some);
            }
            Some(_) => {}
            None => return damaged("a sample entry is missing"),
        }
    }
    Ok(None)
}

impl Track {
    /// Of one that has AV1 samples.
    pub fn properties(&self) -> Option<&[Property]> {
        let samples = self.samples.as_ref().filter(|samples| self.id != 0 && samples.chunk.is_some())?;
        samples.properties.as_deref()
    }

    pub fn config(&self) -> Option<Config> {
        self.properties()?.iter().find_map(|property| match property {
            Property::Config(config) => Some(*config),
            _ => None,
        })
    }

    /// Whether its properties do not say that it is anything but alpha.
    pub fn may_be_alpha(&self) -> bool {
        let mut properties = self.properties().unwrap_or_default().iter();
        properties.find(|property| matches!(property, Property::Auxiliary { .. }))
            != Some(&Property::Auxiliary { is_alpha: false })
    }

    /// Its first picture.
    pub fn first<'a>(&self, file: &'a [u8]) -> Parsed<&'a [u8]> {
        let found = self.samples.as_ref().filter(|samples| samples.has_samples).and_then(|samples| {
            let start = usize::try_from(samples.chunk?).ok()?;
            file.get(start..start.checked_add(usize::try_from(samples.bytes).ok()?)?)
        });
        found.map_or_else(|| damaged("the file is cut off: its first picture lies behind its end"), Ok)
    }
}
