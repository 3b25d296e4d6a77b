//! Where the coded data of an item is: one picture, or the tiles of a grid.

use std::borrow::Cow;
use std::collections::HashMap;

use super::boxes::{Parsed, Problem, Reader, damaged};
use super::items::{Item, Meta};
use super::properties::{Config, Property};

/// How many times the data of a file may be decoded.
const TIMES_MAX: usize = 8;

/// Coded data of one picture.
#[derive(Debug)]
pub(super) struct Tile<'a> {
    pub data: Cow<'a, [u8]>,
    pub width: u32,
    pub height: u32,
    pub operating_point: u8,
    /// The only layer that is wanted.
    pub layer: Option<u8>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    pub rows: u32,
    pub columns: u32,
    pub width: u32,
    pub height: u32,
}

#[derive(Debug)]
pub(super) struct Coded<'a> {
    pub config: Config,
    /// One, or row by row as many as the grid has.
    pub tiles: Vec<Tile<'a>>,
    pub grid: Option<Grid>,
}

/// An item that is a picture, or a grid of them.
pub(super) fn coded<'a>(file: &'a [u8], meta: &Meta<'a>, item: &Item) -> Parsed<Coded<'a>> {
    if item.kind != *b"grid" {
        let Some(config) = meta.config(item) else { return damaged("its AV1 configuration is missing") };
        check_depth(meta, item, config)?;
        return Ok(Coded { config, tiles: vec![tile(file, meta, item)?], grid: None });
    }
    let data = meta.data(item, file)?;
    let grid = grid(Reader(&data))?;
    if meta.size(item) != Some((grid.width, grid.height)) {
        return damaged("its grid is of another size than the picture");
    }
    let count = (grid.rows * grid.columns) as usize;
    let tiles = parts_of(meta, item, count)?;
    of_grid(file, meta, item, grid, tiles)
}

/// The tiles of a grid, by number.
fn parts_of<'m>(meta: &'m Meta<'_>, item: &Item, count: usize) -> Parsed<Vec<&'m Item>> {
    let mut tiles = vec![None; count];
    for tile in meta.items().iter().filter(|tile| tile.part_of == item.id) {
        match tiles.get_mut(usize::from(tile.part)) {
            Some(place @ None) => *place = Some(tile),
            _ => return damaged("its grid has another number of tiles than it says"),
        }
    }
    let tiles: Option<Vec<_>> = tiles.into_iter().collect();
    tiles.map_or_else(|| damaged("a tile of its grid is missing"), Ok)
}

fn of_grid<'a>(file: &'a [u8], meta: &Meta<'a>, item: &Item, grid: Grid, tiles: Vec<&Item>) -> Parsed<Coded<'a>> {
    let mut configs = Vec::with_capacity(tiles.len());
    for tile in &tiles {
        if tile.kind != *b"av01" || meta.has_unknown_essential(tile) {
            return damaged("a tile of its grid is no AV1 picture");
        }
        let Some(config) = meta.config(tile) else { return damaged("its AV1 configuration is missing") };
        configs.push(config);
    }
    let config =
        meta.config(item).or(configs.first().copied()).filter(|config| configs.iter().all(|other| other == config));
    let Some(config) = config else { return damaged("the tiles of its grid are of different kinds") };
    check_depth(meta, item, config)?;
    // Tiles may lie on top of each other, or be put together from pieces of each other.
    let (mut coded, mut bytes, mut copied) = (Vec::with_capacity(tiles.len()), 0, 0);
    for item in tiles {
        let tile = tile(file, meta, item)?;
        bytes += tile.data.len();
        copied += if matches!(tile.data, Cow::Owned(_)) { tile.data.len() } else { 0 };
        if bytes > TIMES_MAX * file.len() || copied > file.len() {
            return Err(Problem::Unsupported("an AVIF picture whose tiles have the same data"));
        }
        coded.push(tile);
    }
    Ok(Coded { config, tiles: coded, grid: Some(grid) })
}

/// Alpha that is said of each tile instead of the whole grid.
pub(super) fn alpha_of_tiles<'a>(
    file: &'a [u8],
    meta: &Meta<'a>,
    item: &Item,
    grid: Grid,
) -> Parsed<Option<Coded<'a>>> {
    let tiles = parts_of(meta, item, (grid.rows * grid.columns) as usize)?;
    let mut alpha = HashMap::new();
    for item in meta.items().iter().filter(|item| item.auxiliary_for != 0 && meta.is_alpha(item)) {
        if alpha.insert(item.auxiliary_for, item).is_some() {
            return damaged("a tile of its grid has two alpha planes");
        }
    }
    let found: Vec<_> = tiles.iter().filter_map(|tile| alpha.get(&tile.id).copied()).collect();
    if found.len() < tiles.len() {
        // Pillow takes a picture for opaque whose alpha is not everywhere.
        return Ok(None);
    }
    if found.iter().any(|alpha| alpha.part_of != 0) {
        return damaged("the alpha plane of a tile is a tile");
    }
    of_grid(file, meta, &Item::default(), grid, found).map(Some)
}

fn tile<'a>(file: &'a [u8], meta: &Meta<'a>, item: &Item) -> Parsed<Tile<'a>> {
    let Some((width, height)) = meta.size(item) else { return damaged("an item has no size") };
    let mut data = meta.data(item, file)?;
    let (mut operating_point, mut layer, mut sizes) = (0, None, None);
    // Of several of a kind, the first one.
    let all: Vec<Property> = meta.properties(item).collect();
    for property in all.into_iter().rev() {
        match property {
            Property::OperatingPoint(point) => operating_point = point,
            Property::Layer(wanted) => layer = wanted,
            Property::LayerBytes(bytes) => sizes = Some(bytes),
            _ => {}
        }
    }
    if let Some(sizes) = sizes {
        let ends = layer_ends(sizes, data.len())?;
        if let Some(layer) = layer {
            let Some(&end) = ends.get(usize::from(layer)) else { return damaged("its layer is missing") };
            data = match data {
                Cow::Borrowed(data) => Cow::Borrowed(&data[..end]),
                Cow::Owned(data) => Cow::Owned(data[..end].to_vec()),
            };
        }
    }
    if data.is_empty() {
        damaged("an item has no data")
    } else {
        Ok(Tile { data, width, height, operating_point, layer })
    }
}

/// Where each layer ends: the last one takes what is left.
fn layer_ends(sizes: [u32; 3], bytes: usize) -> Parsed<Vec<usize>> {
    let (mut ends, mut at) = (Vec::new(), 0);
    for size in sizes {
        if size == 0 {
            break;
        }
        at += size as usize;
        if at >= bytes {
            return damaged("its layers are longer than its data");
        }
        ends.push(at);
    }
    ends.push(bytes);
    Ok(ends)
}

fn grid(mut body: Reader<'_>) -> Parsed<Grid> {
    if body.u8()? != 0 {
        return Err(Problem::Unsupported("an AVIF picture with a grid of an unknown version"));
    }
    let wide = body.u8()? & 1 == 1;
    let (rows, columns) = (u32::from(body.u8()?) + 1, u32::from(body.u8()?) + 1);
    let grid = Grid { rows, columns, width: body.id(wide)?, height: body.id(wide)? };
    if grid.width == 0 || grid.height == 0 || !body.is_empty() { damaged("its grid is damaged") } else { Ok(grid) }
}

fn check_depth(meta: &Meta<'_>, item: &Item, config: Config) -> Parsed<()> {
    let first = meta.properties(item).find(|property| matches!(property, Property::Depth(_)));
    match first {
        Some(Property::Depth(depth)) if depth != config.depth() => damaged("it says two depths of its samples"),
        _ => Ok(()),
    }
}
