//! Sizes and rectangles of pictures, in pixels.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub width: usize,
    pub height: usize,
}

impl Size {
    /// All of a picture of this size.
    pub fn whole(self) -> Region {
        Region { left: 0, top: 0, width: self.width, height: self.height }
    }
}

/// A rectangle of a picture, from its left and top.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Region {
    pub left: usize,
    pub top: usize,
    pub width: usize,
    pub height: usize,
}

impl Region {
    pub fn right(self) -> usize {
        self.left + self.width
    }

    pub fn bottom(self) -> usize {
        self.top + self.height
    }

    /// The smallest rectangle around both.
    pub fn union(self, other: Self) -> Self {
        let (left, top) = (self.left.min(other.left), self.top.min(other.top));
        let (right, bottom) = (self.right().max(other.right()), self.bottom().max(other.bottom()));
        Self { left, top, width: right - left, height: bottom - top }
    }

    pub fn contains(self, other: Self) -> bool {
        self.union(other) == self
    }
}
