//! Results on standard output, as text or JSON lines; progress and logs on standard error.

use std::io::{IsTerminal, Write};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use tokio::task::JoinHandle;
use tracing_subscriber::fmt::MakeWriter;

use crate::pipeline::Progress;

/// How often a progress bar is redrawn.
const REDRAW: Duration = Duration::from_millis(100);

/// Where a verb's results go. Writing returns `io::Error`, which `?` converts to `CliError`.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    json: bool,
}

impl Output {
    pub fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether results are JSON lines.
    pub fn is_json(self) -> bool {
        self.json
    }

    /// One line of text.
    pub fn line(self, text: impl std::fmt::Display) -> std::io::Result<()> {
        suspended(|| {
            let mut stdout = std::io::stdout().lock();
            writeln!(stdout, "{text}")?;
            stdout.flush()
        })
    }

    /// One JSON line.
    pub fn json_line(self, value: &impl Serialize) -> std::io::Result<()> {
        let line = serde_json::to_string(value).map_err(std::io::Error::other)?;
        self.line(line)
    }

    /// A result as JSON or as text.
    pub fn result(self, value: &impl Serialize, text: impl FnOnce() -> String) -> std::io::Result<()> {
        if self.json { self.json_line(value) } else { self.line(text()) }
    }
}

/// A table without borders, at most as wide as the terminal; in a pipe, as wide as its contents.
pub fn table() -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if let Some((width, _)) = terminal_size::terminal_size_of(std::io::stdout()) {
        table.set_width(width.0);
    }
    table
}

/// `1 message`, `2 messages`.
pub fn counted(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// Visible progress bars, so that they can be hidden while lines are written.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// A progress bar on standard error; invisible unless that is a terminal. `total`: `None` if it is unknown.
/// `what` names the items, for example `messages`.
pub fn progress(what: &str, total: Option<u64>) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
    }
    let (bar, template) = match total {
        Some(total) => (ProgressBar::new(total), "{bar:30} {pos}/{len} {msg}  {per_sec}  {eta} left"),
        None => (ProgressBar::new_spinner(), "{spinner} {pos} {msg}  {per_sec}  {elapsed}"),
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    BARS.add(bar.with_style(style).with_message(what.to_owned()))
}

/// A progress bar over bytes, as [`progress`].
pub fn progress_bytes(total: u64) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes}  {binary_bytes_per_sec}  {eta} left")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    BARS.add(ProgressBar::new(total).with_style(style))
}

/// A progress bar that moves by itself until it is dropped.
pub struct Watch {
    bar: ProgressBar,
    drawing: JoinHandle<()>,
}

impl Watch {
    fn new(bar: ProgressBar, draw: impl Fn(&ProgressBar) + Send + 'static) -> Self {
        let drawn = bar.clone();
        let drawing = tokio::spawn(async move {
            loop {
                draw(&drawn);
                tokio::time::sleep(REDRAW).await;
            }
        });
        Self { bar, drawing }
    }
}

/// Follows a pipeline's counts. `what` names the messages. Call it within a tokio runtime.
pub fn watch(what: &str, total: Option<u64>, counts: Arc<Progress>) -> Watch {
    Watch::new(progress(what, total), move |bar| bar.set_position(counts.settled()))
}

/// Says what is under way whose end is not known. Call it within a tokio runtime.
pub fn waiting(what: &str) -> Watch {
    Watch::new(progress(what, None), ProgressBar::tick)
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.drawing.abort();
        self.bar.finish_and_clear();
    }
}

fn suspended<T>(write: impl FnOnce() -> T) -> T {
    if LazyLock::get(&BARS).is_some() { BARS.suspend(write) } else { write() }
}

/// Standard error for logs: hides progress bars while a line is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        suspended(|| std::io::stderr().lock().write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

impl<'w> MakeWriter<'w> for LogWriter {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        Self
    }
}
