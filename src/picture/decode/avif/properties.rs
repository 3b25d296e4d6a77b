//! Properties of an item or a track (ISO/IEC 23008-12, AV1 image file format): what the file says of a picture besides its data.

use super::boxes::{Child, Kind, Parsed, Problem, Reader, damaged};

/// Both names of an alpha plane.
const ALPHA: [&[u8]; 2] = [b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1"];

/// Layers of one picture, as AV1 allows them.
const LAYERS_MAX: u16 = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Property {
    /// `ispe`: width and height.
    Size(u32, u32),
    /// `auxC`, and `auxi` of a track: whether the item is an alpha plane.
    Auxiliary {
        is_alpha: bool,
    },
    /// `colr` of kind `nclx`.
    Colors(Colors),
    /// `colr` with a profile, `pasp`, `clli`: known, and of no consequence for the pixels.
    Ignored,
    /// `av1C`.
    Config(Config),
    /// `irot`: quarter turns against the clock.
    Rotation(u8),
    /// `imir`: the axis.
    Mirror(u8),
    /// `clap`: Pillow does not apply it either.
    Aperture([u32; 8]),
    /// `pixi`: bits of each channel, all the same.
    Depth(u8),
    /// `a1op`.
    OperatingPoint(u8),
    /// `lsel`: none for all layers.
    Layer(Option<u8>),
    /// `a1lx`: bytes of the first three layers.
    LayerBytes([u32; 3]),
    Unknown,
}

/// Code points of ITU-T H.273.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Colors {
    pub primaries: u16,
    pub matrix: u16,
    pub full_range: bool,
}

/// What `av1C` says of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Config {
    profile_and_level: u8,
    flags: u8,
}

impl Config {
    pub fn depth(self) -> u8 {
        match (self.flags >> 6 & 1, self.flags >> 5 & 1) {
            (1, 1) => 12,
            (1, _) => 10,
            _ => 8,
        }
    }

    pub fn is_grey(self) -> bool {
        self.flags >> 4 & 1 == 1
    }
}

impl Property {
    /// Whether one that an item may not do without may be passed over.
    pub fn is_known(self) -> bool {
        self != Self::Unknown
    }

    /// Whether readers must understand it (true) or need not (false); none where either is right.
    pub fn must_be_essential(self) -> Option<bool> {
        match self {
            Self::OperatingPoint(_) | Self::Layer(_) | Self::Aperture(_) | Self::Rotation(_) | Self::Mirror(_) => {
                Some(true)
            }
            Self::LayerBytes(_) => Some(false),
            _ => None,
        }
    }
}

/// As many as an item can refer to.
const PROPERTIES_MAX: usize = 0x7FFF;

/// All properties of `ipco`, or of a track's sample entry.
pub(super) fn read(mut container: Reader<'_>, is_track: bool) -> Parsed<Vec<Property>> {
    let mut all = Vec::new();
    while let Some(Child { kind, body }) = container.child()? {
        if all.len() == PROPERTIES_MAX {
            return Err(Problem::Unsupported("an AVIF picture of more than 32,767 properties"));
        }
        all.push(property(kind, body, is_track)?);
    }
    Ok(all)
}

fn property(kind: Kind, mut body: Reader<'_>, is_track: bool) -> Parsed<Property> {
    Ok(match (&kind, is_track) {
        (b"ispe", _) => {
            body.full_of_version_0()?;
            Property::Size(body.u32()?, body.u32()?)
        }
        (b"auxC", false) | (b"auxi", true) => {
            body.full_of_version_0()?;
            // libavif keeps 63 characters; both names are shorter.
            Property::Auxiliary { is_alpha: ALPHA.contains(&body.text()?) }
        }
        (b"colr", _) => colors(body)?,
        (b"av1C", _) => config(body)?,
        (b"pasp", _) => {
            body.take(8)?;
            Property::Ignored
        }
        (b"clli", _) => {
            body.take(4)?;
            Property::Ignored
        }
        (b"clap", _) => {
            let mut fields = [0; 8];
            for field in &mut fields {
                *field = body.u32()?;
            }
            Property::Aperture(fields)
        }
        (b"irot", _) => match body.u8()? {
            angle @ 0..=3 => Property::Rotation(angle),
            _ => return damaged("its rotation is none"),
        },
        (b"imir", _) => match body.u8()? {
            axis @ 0..=1 => Property::Mirror(axis),
            _ => return damaged("its mirror axis is none"),
        },
        (b"pixi", _) => depth(body)?,
        (b"a1op", _) => match body.u8()? {
            point @ 0..=31 => Property::OperatingPoint(point),
            _ => return damaged("its operating point is out of range"),
        },
        (b"lsel", _) => match body.u16()? {
            0xFFFF => Property::Layer(None),
            layer if layer < LAYERS_MAX => Property::Layer(Some(layer as u8)),
            _ => return damaged("its layer is out of range"),
        },
        (b"a1lx", _) => {
            let wide = match body.u8()? {
                size @ 0..=1 => size == 1,
                _ => return damaged("the sizes of its layers are damaged"),
            };
            Property::LayerBytes([body.id(wide)?, body.id(wide)?, body.id(wide)?])
        }
        _ => Property::Unknown,
    })
}

fn colors(mut body: Reader<'_>) -> Parsed<Property> {
    match &body.kind()? {
        b"nclx" => {
            let (primaries, _transfer, matrix) = (body.u16()?, body.u16()?, body.u16()?);
            match body.u8()? {
                range @ (0 | 0x80) => Ok(Property::Colors(Colors { primaries, matrix, full_range: range != 0 })),
                _ => damaged("its colour range is damaged"),
            }
        }
        b"rICC" | b"prof" if body.is_empty() => damaged("its colour profile is empty"),
        _ => Ok(Property::Ignored),
    }
}

fn config(mut body: Reader<'_>) -> Parsed<Property> {
    if body.u8()? != 0x81 {
        return damaged("its AV1 configuration has an unknown version");
    }
    let config = Config { profile_and_level: body.u8()?, flags: body.u8()? };
    body.u8()?;
    Ok(Property::Config(config))
}

fn depth(mut body: Reader<'_>) -> Parsed<Property> {
    body.full_of_version_0()?;
    let count = usize::from(body.u8()?);
    if !(1..=4).contains(&count) {
        return Err(Problem::Unsupported("an AVIF picture with an unusual number of channels"));
    }
    let depths = body.take(count)?;
    match depths[0] {
        0 => damaged("a channel has no bits"),
        1..=16 if depths.iter().all(|depth| *depth == depths[0]) => Ok(Property::Depth(depths[0])),
        _ => Err(Problem::Unsupported("an AVIF picture whose channels have different or unusual depths")),
    }
}
