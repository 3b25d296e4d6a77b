//! Captures the log in tests.

use std::io;
use std::sync::{Arc, Mutex, OnceLock};

use tracing::Dispatch;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

/// Captures the lines of this thread from `info` on, until it is dropped.
pub(crate) struct LogLines {
    written: Written,
    _guard: DefaultGuard,
}

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for Written {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}

impl LogLines {
    pub(crate) fn start() -> Self {
        // With a single subscriber, `tracing` caches for all threads whether the first thread to reach a line wants it.
        // With two it asks the subscribers.
        static SECOND: OnceLock<Dispatch> = OnceLock::new();
        SECOND.get_or_init(|| Dispatch::new(tracing_subscriber::fmt().with_writer(std::io::sink).finish()));
        let written = Written::default();
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(written.clone()).finish();
        Self { written, _guard: tracing::subscriber::set_default(subscriber) }
    }

    pub(crate) fn all(&self) -> Vec<String> {
        String::from_utf8(self.written.0.lock().unwrap().clone()).unwrap().lines().map(str::to_owned).collect()
    }

    pub(crate) fn count(&self, part: &str) -> usize {
        self.all().iter().filter(|line| line.contains(part)).count()
    }
}
