//! The `meta` box: items, where their data is, what they refer to.

use std::borrow::Cow;
use std::collections::HashMap;

use super::boxes::{Child, Kind, Parsed, Problem, Reader, damaged};
use super::properties::{self, Config, Property};

/// More than a picture of 128 megapixels may need: tiles have at least 64 x 64 pixels, and alpha has as many. Each costs more memory
/// than bytes of the file.
const ITEMS_MAX: usize = 65_536;

/// Pieces of all items. They may take no bytes of the file at all.
const EXTENTS_MAX: usize = 2 * ITEMS_MAX;

/// libavif's bound on boxes of associations, which differ in version and flags.
const ASSOCIATIONS_MAX: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Item {
    pub id: u32,
    pub kind: Kind,
    extents: Vec<(u64, u64)>,
    bytes: u64,
    in_idat: bool,
    /// Positions in the properties of all.
    properties: Vec<u16>,
    has_properties: bool,
    has_unknown_essential: bool,
    pub thumbnail_for: u32,
    pub auxiliary_for: u32,
    /// The derived item that this one is a part of, and which part.
    pub part_of: u32,
    pub part: u16,
    pub premultiplied_by: u32,
    has_parts: bool,
}

#[derive(Debug, Default)]
pub(super) struct Meta<'a> {
    items: Vec<Item>,
    by_id: HashMap<u32, usize>,
    properties: Vec<Property>,
    pub primary: u32,
    idat: Option<&'a [u8]>,
}

impl<'a> Meta<'a> {
    /// By libavif's rules: what it refuses is refused.
    pub fn read(mut body: Reader<'a>) -> Parsed<Self> {
        let mut meta = Self::default();
        body.full_of_version_0()?;
        match body.child()? {
            Some(Child { kind: [b'h', b'd', b'l', b'r'], body }) if handler(body)? == *b"pict" => {}
            _ => return damaged("its items are not said to be pictures"),
        }
        let mut seen: Vec<Kind> = Vec::new();
        while let Some(Child { kind, body }) = body.child()? {
            if !matches!(&kind, b"hdlr" | b"iloc" | b"pitm" | b"idat" | b"iprp" | b"iinf" | b"iref" | b"grpl") {
                continue;
            }
            if kind == *b"hdlr" || seen.contains(&kind) {
                return damaged("a box is there twice");
            }
            seen.push(kind);
            match &kind {
                b"iloc" => meta.read_locations(body)?,
                b"pitm" => meta.primary = primary(body)?,
                b"idat" if body.is_empty() => return damaged("a box is empty"),
                b"idat" => meta.idat = Some(body.0),
                b"iprp" => meta.read_properties(body)?,
                b"iinf" => meta.read_infos(body)?,
                b"iref" => meta.read_references(body)?,
                _ => {}
            }
        }
        Ok(meta)
    }

    pub fn items(&self) -> &[Item] {
        &self.items
    }

    pub fn item(&self, id: u32) -> Option<&Item> {
        self.by_id.get(&id).map(|at| &self.items[*at])
    }

    fn at(&mut self, id: u32) -> Parsed<&mut Item> {
        if id == 0 {
            return damaged("an item has no number");
        }
        let next = self.items.len();
        let at = *self.by_id.entry(id).or_insert(next);
        if at == next {
            if next >= ITEMS_MAX {
                return Err(Problem::Unsupported("an AVIF picture of more than 65,536 items"));
            }
            self.items.push(Item { id, ..Item::default() });
        }
        Ok(&mut self.items[at])
    }

    fn read_locations(&mut self, mut body: Reader<'_>) -> Parsed<()> {
        let (version, _) = body.full()?;
        if version > 2 {
            return damaged("a box has an unknown version");
        }
        let (sizes, more) = (body.u8()?, body.u8()?);
        let (offset, length, base, index) =
            (sizes >> 4, sizes & 15, more >> 4, if version == 0 { 0 } else { more & 15 });
        if [offset, length, base, index].iter().any(|size| !matches!(size, 0 | 4 | 8)) {
            return damaged("places of data are of an unknown size");
        }
        let mut extents = 0;
        for _ in 0..body.id(version == 2)? {
            let id = body.id(version == 2)?;
            let item = self.at(id)?;
            if !item.extents.is_empty() {
                return damaged("an item has its data twice");
            }
            if version > 0 {
                match body.u16()? {
                    0 => {}
                    1 => item.in_idat = true,
                    _ => return damaged("an item has its data in an unknown place"),
                }
            }
            body.u16()?;
            let base = body.sized(base)?;
            for _ in 0..body.u16()? {
                extents += 1;
                if extents > EXTENTS_MAX {
                    return Err(Problem::Unsupported("an AVIF picture of more than 131,072 pieces"));
                }
                body.sized(index)?;
                let (offset, length) = (body.sized(offset)?, body.sized(length)?);
                let Some(offset) = base.checked_add(offset) else { return damaged("an item lies outside of the file") };
                item.extents.push((offset, length));
                let Some(bytes) = item.bytes.checked_add(length) else {
                    return damaged("an item lies outside of the file");
                };
                item.bytes = bytes;
            }
        }
        Ok(())
    }

    fn read_properties(&mut self, mut body: Reader<'_>) -> Parsed<()> {
        let Some(Child { kind: [b'i', b'p', b'c', b'o'], body: container }) = body.child()? else {
            return damaged("its properties are missing");
        };
        self.properties = properties::read(container, false)?;
        let mut seen = Vec::new();
        while let Some(Child { kind, body }) = body.child()? {
            if kind != *b"ipma" {
                return damaged("there is an unknown box among its properties");
            }
            let full = self.read_associations(body)?;
            if seen.contains(&full) {
                return damaged("a box is there twice");
            }
            seen.push(full);
            if seen.len() > ASSOCIATIONS_MAX {
                return damaged("it has too many boxes of associations");
            }
        }
        Ok(())
    }

    fn read_associations(&mut self, mut body: Reader<'_>) -> Parsed<(u8, u32)> {
        let full @ (version, flags) = body.full()?;
        let wide = flags & 1 != 0;
        let mut before = 0;
        for _ in 0..body.u32()? {
            let id = body.id(version > 0)?;
            if id <= before {
                return damaged("its items are not in order");
            }
            before = id;
            let count = body.u8()?;
            let mut found = Vec::with_capacity(usize::from(count));
            let mut has_unknown_essential = false;
            for _ in 0..count {
                let (essential, number) = if wide {
                    let word = body.u16()?;
                    (word >> 15 == 1, word & 0x7FFF)
                } else {
                    let byte = body.u8()?;
                    (byte >> 7 == 1, u16::from(byte & 0x7F))
                };
                let Some(at) = number.checked_sub(1) else {
                    if essential {
                        return damaged("an item needs a property that is not there");
                    }
                    continue;
                };
                let Some(property) = self.properties.get(usize::from(at)) else {
                    return damaged("an item has a property that is not there");
                };
                if property.must_be_essential().is_some_and(|must| must != essential) {
                    return damaged("a property is essential, or not, against the rules");
                }
                has_unknown_essential |= essential && !property.is_known();
                found.push(at);
            }
            let item = self.at(id)?;
            if item.has_properties {
                return damaged("an item has its properties twice");
            }
            (item.has_properties, item.properties, item.has_unknown_essential) = (true, found, has_unknown_essential);
        }
        Ok(full)
    }

    fn read_infos(&mut self, mut body: Reader<'_>) -> Parsed<()> {
        let (version, _) = body.full()?;
        if version > 1 {
            return damaged("a box has an unknown version");
        }
        for _ in 0..body.id(version == 1)? {
            let Some(Child { kind: [b'i', b'n', b'f', b'e'], mut body }) = body.child()? else {
                return damaged("what its items are is damaged");
            };
            let (version, _) = body.full()?;
            if !matches!(version, 2 | 3) {
                return damaged("a box has an unknown version");
            }
            let id = body.id(version == 3)?;
            body.u16()?;
            let kind = body.kind()?;
            body.text()?;
            if kind == *b"mime" {
                body.text()?;
            }
            self.at(id)?.kind = kind;
        }
        Ok(())
    }

    fn read_references(&mut self, mut body: Reader<'_>) -> Parsed<()> {
        let (version, _) = body.full()?;
        if version > 1 {
            return Ok(());
        }
        // The box of each reference ends where its numbers do, as in libavif.
        while !body.is_empty() {
            let kind = body.head()?.kind;
            let from = body.id(version == 1)?;
            let item = self.at(from)?;
            if kind == *b"dimg" && std::mem::replace(&mut item.has_parts, true) {
                return damaged("an item is derived twice");
            }
            for part in 0..body.u16()? {
                let to = body.id(version == 1)?;
                if to == 0 {
                    return damaged("an item has no number");
                }
                match &kind {
                    b"thmb" => self.at(from)?.thumbnail_for = to,
                    b"auxl" => self.at(from)?.auxiliary_for = to,
                    b"prem" => self.at(from)?.premultiplied_by = to,
                    b"dimg" => {
                        let item = self.at(to)?;
                        match item.part_of {
                            0 => (item.part_of, item.part) = (from, part),
                            of if of == from => return damaged("a tile is there twice"),
                            _ => return Err(Problem::Unsupported("an AVIF picture whose tiles are in two pictures")),
                        }
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    pub fn properties(&self, item: &Item) -> impl Iterator<Item = Property> {
        item.properties.iter().map(|at| self.properties[usize::from(*at)])
    }

    pub fn size(&self, item: &Item) -> Option<(u32, u32)> {
        self.properties(item).find_map(|property| match property {
            Property::Size(width, height) => Some((width, height)),
            _ => None,
        })
    }

    pub fn config(&self, item: &Item) -> Option<Config> {
        self.properties(item).find_map(|property| match property {
            Property::Config(config) => Some(config),
            _ => None,
        })
    }

    pub fn is_alpha(&self, item: &Item) -> bool {
        let first = self.properties(item).find(|property| matches!(property, Property::Auxiliary { .. }));
        first == Some(Property::Auxiliary { is_alpha: true })
    }

    /// Whether it is not a picture, or none that is decoded.
    pub fn is_passed_over(&self, item: &Item) -> bool {
        item.bytes == 0
            || item.has_unknown_essential
            || !matches!(&item.kind, b"av01" | b"grid")
            || item.thumbnail_for != 0
    }

    pub fn has_unknown_essential(&self, item: &Item) -> bool {
        item.has_unknown_essential
    }

    /// Of a file with all of these bytes.
    pub fn data(&self, item: &Item, file: &'a [u8]) -> Parsed<Cow<'a, [u8]>> {
        const OUTSIDE: Problem = Problem::Damaged("the file is cut off: an item lies behind its end");
        let source = match (item.in_idat, self.idat) {
            (false, _) => file,
            (true, Some(idat)) => idat,
            (true, None) => return damaged("the data of an item is missing"),
        };
        let piece = |(offset, length): (u64, u64)| {
            let start = usize::try_from(offset).ok()?;
            source.get(start..start.checked_add(usize::try_from(length).ok()?)?)
        };
        match item.extents[..] {
            [] => damaged("an item has no data"),
            [extent] => piece(extent).map(Cow::Borrowed).ok_or(OUTSIDE),
            _ => {
                // Pieces may overlap: they are not copied together to more than there is.
                if item.bytes > source.len() as u64 {
                    return Err(OUTSIDE);
                }
                let mut whole = Vec::with_capacity(item.bytes as usize);
                for extent in &item.extents {
                    whole.extend_from_slice(piece(*extent).ok_or(OUTSIDE)?);
                }
                Ok(Cow::Owned(whole))
            }
        }
    }
}

/// The kind of `hdlr`.
pub(super) fn handler(mut body: Reader<'_>) -> Parsed<Kind> {
    body.full_of_version_0()?;
    if body.u32()? != 0 {
        return damaged("its handler is damaged");
    }
    let kind = body.kind()?;
    body.take(12)?;
    body.text()?;
    Ok(kind)
}

fn primary(mut body: Reader<'_>) -> Parsed<u32> {
    let (version, _) = body.full()?;
    body.id(version > 0)
}
