//! Planes of samples: of one decoded frame, or put together from the tiles of a grid.

use super::av1::{Frame, Layout, Plane};
use super::coded::Grid;

/// `u8` for 8 bits per sample, `u16` for more.
pub(super) trait Sample: Copy + Default + Into<u16> + TryFrom<u16> {}

impl Sample for u8 {}
impl Sample for u16 {}

/// Luma, and two of chroma unless it is grey.
pub(super) struct Planes<'a, T> {
    pub width: usize,
    pub height: usize,
    pub depth: u8,
    pub layout: Layout,
    pub luma: Plane<'a, T>,
    pub chroma: Option<[Plane<'a, T>; 2]>,
}

pub(super) enum Held<T> {
    Frame(Frame),
    Canvas(Canvas<T>),
}

/// A grid whose tiles are filled in one after the other.
pub(super) struct Canvas<T> {
    grid: Grid,
    tile: (usize, usize),
    depth: u8,
    layout: Layout,
    planes: [(Vec<T>, usize); 3],
}

impl<T: Sample> Held<T> {
    pub fn planes(&self) -> Option<Planes<'_, T>> {
        match self {
            Self::Frame(frame) => {
                let (width, height) = frame.size();
                let chroma = match frame.layout() {
                    Layout::Grey => None,
                    _ => Some([frame.plane(1)?, frame.plane(2)?]),
                };
                let (depth, layout) = (frame.depth(), frame.layout());
                Some(Planes { width, height, depth, layout, luma: frame.plane(0)?, chroma })
            }
            Self::Canvas(canvas) => {
                let plane = |n: usize| Plane { samples: &canvas.planes[n].0[..], stride: canvas.planes[n].1 };
                let chroma = (canvas.layout != Layout::Grey).then(|| [plane(1), plane(2)]);
                Some(Planes {
                    width: canvas.grid.width as usize,
                    height: canvas.grid.height as usize,
                    depth: canvas.depth,
                    layout: canvas.layout,
                    luma: plane(0),
                    chroma,
                })
            }
        }
    }
}

impl<T: Sample> Canvas<T> {
    /// For tiles like `first`, by libavif's rules: none where they do not make a picture of the grid's size. Of alpha
    /// only luma is kept.
    pub fn new(grid: Grid, first: &Frame, is_alpha: bool) -> Option<Self> {
        let (layout, tile) = (if is_alpha { Layout::Grey } else { first.layout() }, first.size());
        let (width, height) = (grid.width as usize, grid.height as usize);
        let covers = |tile: usize, count: u32, side: usize| {
            let count = count as usize;
            tile >= 64 && tile * count >= side && tile * (count - 1) < side
        };
        let is_even = |sides: [usize; 2]| sides.iter().all(|side| side % 2 == 0);
        let is_halved = match layout {
            Layout::Quarter => is_even([width, tile.0]) && is_even([height, tile.1]),
            Layout::Half => is_even([width, tile.0]),
            Layout::Grey | Layout::Full => true,
        };
        if !covers(tile.0, grid.columns, width) || !covers(tile.1, grid.rows, height) || !is_halved {
            return None;
        }
        let plane = |(width, height): (usize, usize)| (vec![T::default(); width * height], width);
        let chroma = match layout {
            Layout::Grey => (0, 0),
            Layout::Quarter => (width / 2, height / 2),
            Layout::Half => (width / 2, height),
            Layout::Full => (width, height),
        };
        let planes = [plane((width, height)), plane(chroma), plane(chroma)];
        Some(Self { grid, tile, depth: first.depth(), layout, planes })
    }

    /// The tile of that number, row by row. None where it is unlike the first one.
    pub fn put(&mut self, number: usize, frame: &Frame) -> Option<()> {
        let is_alike = frame.size() == self.tile && frame.depth() == self.depth;
        if !is_alike || self.layout != Layout::Grey && frame.layout() != self.layout {
            return None;
        }
        let (column, row) = (number % self.grid.columns as usize, number / self.grid.columns as usize);
        for (n, (samples, stride)) in self.planes.iter_mut().enumerate() {
            if *stride == 0 {
                continue;
            }
            let (width, height) = frame.plane_size(n);
            let source = frame.plane::<T>(n)?;
            let (left, top) = (column * width, row * height);
            let shown = width.min(*stride - left);
            let lines = samples.chunks_exact_mut(*stride).skip(top).take(height);
            for (y, line) in lines.enumerate() {
                line[left..left + shown].copy_from_slice(source.row(y, shown));
            }
        }
        Some(())
    }
}
