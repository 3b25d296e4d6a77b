//! `clipstream models inspect`: describes a model's graphs.

use super::named::Graphs;
use crate::cli::{CliError, Global, Output};
use crate::clip::{self, Inspection, TowerInspection};

/// Describes a model's files: layout, inputs, outputs, operator set, activation, size, fingerprint
///
/// The graphs are read, not run. With --json: one line with everything, including operators. Reasons for which the model
/// would be refused are under "problems"; the exit code is 0 even then.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: clipstream models inspect ViT-B-32/openai")]
pub struct Args {
    #[command(flatten)]
    graphs: Graphs,
}

pub async fn run(args: Args, global: &Global) -> Result<(), CliError> {
    let settings = global.start_quiet()?.clip;
    let inspection = args.graphs.read(settings, clip::inspect).await?;
    show(&inspection, global.output())
}

fn show(inspection: &Inspection, output: Output) -> Result<(), CliError> {
    if output.is_json() {
        return Ok(output.json_line(inspection)?);
    }
    let i = inspection;
    let mut table = crate::cli::output::table();
    let mut row = |name: &str, values: [String; 2]| {
        let [image, text] = values;
        table.add_row([name.to_owned(), image, text]);
    };
    let both = |of: &dyn Fn(&TowerInspection) -> String| [of(&i.image), of(&i.text)];
    row("", ["image tower".into(), "text tower".into()]);
    row("file", both(&|t| relative(t, i)));
    row("inputs", both(&|t| lines(&t.inputs)));
    row("outputs", both(&|t| lines(&t.outputs)));
    row("operator set", both(&operator_sets));
    row("made by", both(&|t| t.producer.clone()));
    row("activation", both(&activation));
    row("unit length", both(&|t| if t.normalised { "in the graph" } else { "by clipstream" }.into()));
    row("weights", both(&weights));
    row("tokens known", ["".into(), i.text.vocabulary.map_or("not recognised".into(), |rows| rows.to_string())]);

    output.line(format!("{} in {}", i.model, i.directory.display()))?;
    let there: Vec<_> = i.precisions.iter().map(|p| p.as_str()).collect();
    output.line(format!("{} layout, {} shown, available: {}", i.layout, i.precision, there.join(", ")))?;
    output.line(format!("{} parameters, {} of graphs and weights", millions(i.parameters), megabytes(i.size_bytes)))?;
    output.line(table)?;
    if let Some(preprocessing) = &i.preprocessing {
        output.line(format!("preprocessing  {preprocessing}"))?;
    }
    output.line(format!("context length {} tokens", i.context_length))?;
    let golden = if i.golden { "present: clipstream models verify runs them" } else { "none: it cannot be verified" };
    output.line(format!("golden vectors {golden}"))?;
    if let Some(f) = &i.fingerprint {
        output
            .line(format!("fingerprint    dimension {}, graph {}, tokenizer {}", f.dimension, f.graph, f.tokenizer))?;
    }
    for problem in &i.problems {
        output.line(format!("✗ {problem}"))?;
    }
    Ok(())
}

fn relative(tower: &TowerInspection, inspection: &Inspection) -> String {
    tower.file.strip_prefix(&inspection.directory).unwrap_or(&tower.file).display().to_string()
}

fn lines(ports: &[impl ToString]) -> String {
    ports.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn operator_sets(tower: &TowerInspection) -> String {
    let others = tower.domains.iter().map(|(domain, version)| format!(", {domain} {version}"));
    format!("{}{} (IR version {})", tower.opset, others.collect::<String>(), tower.ir_version)
}

fn activation(tower: &TowerInspection) -> String {
    if tower.activations.is_empty() {
        return "not recognised".to_owned();
    }
    let found = tower.activations.iter().map(|(activation, times)| format!("{} x {times}", activation.label()));
    found.collect::<Vec<_>>().join(", ")
}

fn weights(tower: &TowerInspection) -> String {
    let kinds = tower.weights.iter().map(|(element, n)| format!("{} {element}", millions(*n)));
    let quantised = if tower.quantised { ", quantised" } else { "" };
    format!("{}{quantised}", kinds.collect::<Vec<_>>().join(", "))
}

fn millions(n: u64) -> String {
    if n >= 100_000 { format!("{:.1} M", n as f64 / 1e6) } else { n.to_string() }
}

fn megabytes(n: u64) -> String {
    format!("{:.1} MB", n as f64 / 1e6)
}
