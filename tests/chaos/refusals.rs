//! What workers are refused by their system: addresses of names, and writes to a disk that has become read-only (`refusals.c`).

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::preload;

/// What becomes of the question for a name's address. The numbers of `enum names`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i64)]
pub enum Names {
    Answered = 0,
    /// Nobody answers, and the system says so at once.
    Away = 1,
    /// Nobody answers, and it is waited for.
    Hang = 2,
    /// No name exists, not even one that the worker has had the address of.
    Denied = 3,
}

/// Where the parts of `struct control` are, in words of 8 bytes.
#[derive(Clone, Copy)]
enum Word {
    Names = 0,
    ReadOnly = 1,
    NamesRefused = 2,
    WritesRefused = 3,
}

/// The refusals of some workers, and of those that are started in their place.
pub struct Refusals {
    library: PathBuf,
    file: PathBuf,
    disk: PathBuf,
}

impl Refusals {
    /// Nothing is refused yet. `None`, and it says so: this machine cannot refuse anything.
    pub fn prepare(folder: &Path, disk: PathBuf, not_done: &str) -> Result<Option<Self>, Error> {
        fs::create_dir_all(folder)?;
        let Some(library) = preload::library(folder, "refusals", not_done) else { return Ok(None) };
        let file = folder.join("refusals");
        fs::write(&file, [0; 4 * 8])?;
        Ok(Some(Self { library, file, disk }))
    }

    /// What a worker needs in its environment.
    pub fn environment(&self) -> [(String, String); 3] {
        [("LD_PRELOAD", &self.library), ("CLIPSTREAM_TEST_REFUSALS", &self.file), ("CLIPSTREAM_TEST_DISK", &self.disk)]
            .map(|(name, path)| (name.to_owned(), path.display().to_string()))
    }

    pub fn set_names(&self, names: Names) -> Result<(), Error> {
        self.set(Word::Names, names as i64)
    }

    pub fn set_read_only(&self, read_only: bool) -> Result<(), Error> {
        self.set(Word::ReadOnly, read_only.into())
    }

    pub fn names_refused(&self) -> Result<i64, Error> {
        self.get(Word::NamesRefused)
    }

    pub fn writes_refused(&self) -> Result<i64, Error> {
        self.get(Word::WritesRefused)
    }

    fn set(&self, word: Word, value: i64) -> Result<(), Error> {
        // The workers have it mapped, so the file stays the same one.
        Ok(File::options().write(true).open(&self.file)?.write_all_at(&value.to_ne_bytes(), word as u64 * 8)?)
    }

    fn get(&self, word: Word) -> Result<i64, Error> {
        let mut value = [0; 8];
        File::open(&self.file)?.read_exact_at(&mut value, word as u64 * 8)?;
        Ok(i64::from_ne_bytes(value))
    }
}
