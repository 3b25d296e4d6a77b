//! `preprocess_cfg.json`: OpenCLIP's `PreprocessCfg`, and one key of ours, `background`.

use serde_json::{Map, Value};

use super::geometry::Fit;
use super::resample::Filter;
use super::{InvalidPreprocess, Preprocess};
use crate::domain::{Decoding, Orientation};
use crate::picture::area::Size;
use crate::redact::cut;

const KEYS: [&str; 8] = ["size", "mode", "mean", "std", "interpolation", "resize_mode", "fill_color", "background"];

/// OpenAI's constants, OpenCLIP's default.
const OPENAI_MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const OPENAI_STD: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

const DEFAULT_SIDE: usize = 224;

/// Larger inputs than any CLIP has; keeps a wrong number from asking for gigabytes.
const SIDE_MAX: u64 = 4096;

pub(super) fn parse(json: &str) -> Result<Preprocess, InvalidPreprocess> {
    let value: Value = serde_json::from_str(json).map_err(|error| {
        InvalidPreprocess(format!("not JSON ({error}), expected an object like OpenCLIP's preprocess_cfg.json"))
    })?;
    let Value::Object(map) = value else {
        return Err(invalid("the file", &value, "an object"));
    };
    for key in map.keys() {
        if !KEYS.contains(&key.as_str()) {
            let near = KEYS.iter().max_by(|a, b| strsim::jaro(a, key).total_cmp(&strsim::jaro(b, key)));
            let hint = near
                .filter(|near| strsim::jaro(near, key) > 0.75)
                .map_or(String::new(), |near| format!(" (did you mean `{near}`?)"));
            let known = KEYS.join(", ");
            return Err(InvalidPreprocess(format!("unknown key `{}`{hint}, expected some of: {known}", cut(key, 60))));
        }
    }
    choice(&map, "mode", "RGB", &["RGB"])?;
    let interpolation = choice(&map, "interpolation", "bicubic", &["bicubic", "bilinear", "random"])?;
    let fit = match choice(&map, "resize_mode", "shortest", &["shortest", "longest", "squash"])? {
        "longest" => Fit::Longest,
        "squash" => Fit::Squash,
        _ => Fit::Shortest,
    };
    let size = size(&map)?;
    // OpenCLIP reads `random` as bicubic outside of training, and its ResizeKeepRatio for oblong inputs is bicubic
    // whatever the file says (open_clip 3.3.0, `image_transform`).
    let oblong_shortest = fit == Fit::Shortest && size.width != size.height;
    let filter = if interpolation == "bilinear" && !oblong_shortest { Filter::Bilinear } else { Filter::Bicubic };
    let std = triple(&map, "std", OPENAI_STD)?;
    if std.iter().any(|s| *s <= 0.0) {
        return Err(invalid("std", &map["std"], "numbers above 0"));
    }
    Ok(Preprocess {
        size,
        fit,
        filter,
        mean: triple(&map, "mean", OPENAI_MEAN)?,
        std,
        fill: match present(&map, "fill_color") {
            None => 0,
            Some(value) => byte(value).ok_or_else(|| invalid("fill_color", value, "a whole number from 0 to 255"))?,
        },
        background: match present(&map, "background") {
            None => None,
            Some(value) => {
                Some(color(value).ok_or_else(|| invalid("background", value, "[red, green, blue], each 0 to 255"))?)
            }
        },
        orientation: Orientation::default(),
        decoding: Decoding::default(),
        is_normalised_later: false,
    })
}

fn invalid(key: &str, found: &Value, expected: &str) -> InvalidPreprocess {
    InvalidPreprocess(format!("{key}: found {}, expected {expected}", cut(&found.to_string(), 60)))
}

/// OpenCLIP takes `null` for a key that is not there.
fn present<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    map.get(key).filter(|value| !value.is_null())
}

fn choice(
    map: &Map<String, Value>,
    key: &str,
    default: &'static str,
    known: &[&'static str],
) -> Result<&'static str, InvalidPreprocess> {
    let Some(value) = present(map, key) else { return Ok(default) };
    let found = known.iter().copied().find(|known| value.as_str() == Some(known));
    found.ok_or_else(|| invalid(key, value, &format!("one of: {}", known.join(", "))))
}

fn size(map: &Map<String, Value>) -> Result<Size, InvalidPreprocess> {
    let Some(value) = present(map, "size") else {
        return Ok(Size { width: DEFAULT_SIDE, height: DEFAULT_SIDE });
    };
    let side = |value: &Value| value.as_u64().filter(|side| (1..=SIDE_MAX).contains(side)).map(|side| side as usize);
    let found = match value {
        Value::Array(sides) => match sides.as_slice() {
            [height, width] => side(height).zip(side(width)),
            [both] => side(both).map(|side| (side, side)),
            _ => None,
        },
        both => side(both).map(|side| (side, side)),
    };
    let (height, width) = found
        .ok_or_else(|| invalid("size", value, &format!("a side or [height, width], each from 1 to {SIDE_MAX}")))?;
    Ok(Size { width, height })
}

/// Three numbers, or one for all three channels.
fn triple(map: &Map<String, Value>, key: &str, default: [f32; 3]) -> Result<[f32; 3], InvalidPreprocess> {
    let Some(value) = present(map, key) else { return Ok(default) };
    let number = |value: &Value| value.as_f64().map(|n| n as f32).filter(|n| n.is_finite());
    let found = match value {
        Value::Array(values) => match values.as_slice() {
            [r, g, b] => number(r).zip(number(g)).zip(number(b)).map(|((r, g), b)| [r, g, b]),
            _ => None,
        },
        one => number(one).map(|n| [n; 3]),
    };
    found.ok_or_else(|| invalid(key, value, "three numbers, for red, green and blue"))
}

fn byte(value: &Value) -> Option<u8> {
    value.as_u64().and_then(|n| u8::try_from(n).ok())
}

fn color(value: &Value) -> Option<[u8; 3]> {
    match value.as_array()?.as_slice() {
        [r, g, b] => Some([byte(r)?, byte(g)?, byte(b)?]),
        _ => None,
    }
}
