//! `clipstream models verify`: checks whether a model gives OpenCLIP's vectors.

use comfy_table::Table;

use super::named::Graphs;
use crate::cli::{CliError, Exit, Global, Output};
use crate::clip::{self, Case, Verification};

/// Runs a model's golden inputs and compares the vectors with OpenCLIP's; exit code 1 if one differs, or there are none
///
/// Texts must have OpenCLIP's tokens. The cosine to OpenCLIP's vectors must be at least the precision's minimum. Files
/// must have the digests in clipstream.json. With --json: one line {"model", "precision", "ok",
/// "cosine_min", "cosine_floor", "cosine_to_fp32_min", "cases", "files_checked", "problems", "next_step", ...}.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: clipstream models verify ViT-B-32/openai --precision int8")]
pub struct Args {
    #[command(flatten)]
    graphs: Graphs,
}

pub async fn run(args: Args, global: &Global) -> Result<(), CliError> {
    let settings = global.start_quiet()?.clip;
    let verification = args.graphs.read(settings, clip::verify).await?;
    show(&verification, global.output())?;
    match (verification.ok, verification.next_step) {
        (true, _) => Ok(()),
        (false, next_step) => {
            let failed = CliError::new(Exit::Failed, format!("{} is not verified", verification.model));
            Err(match next_step {
                Some(next_step) => failed.hint(next_step),
                None => failed,
            })
        }
    }
}

fn show(verification: &Verification, output: Output) -> Result<(), CliError> {
    if output.is_json() {
        return Ok(output.json_line(verification)?);
    }
    let v = verification;
    output.line(format!("{} in {}, {}", v.model, v.directory.display(), v.precision))?;
    if !v.cases.is_empty() {
        output.line(cases(v))?;
    }
    if v.files_checked > 0 {
        output.line(format!("{} files have the digests in clipstream.json", v.files_checked))?;
    }
    for problem in &v.problems {
        output.line(format!("✗ {problem}"))?;
    }
    let to_fp32 = v.cosine_to_fp32_min.map_or(String::new(), |cosine| format!(", {cosine:.6} to its fp32 graphs"));
    let summary = match (v.cosine_min, v.cosine_floor) {
        (Some(cosine), Some(floor)) => {
            let made_with = v.made_with.as_deref().unwrap_or("OpenCLIP");
            format!("lowest cosine {cosine:.6} to {made_with}, at least {floor} expected{to_fp32}")
        }
        _ => "nothing was compared".to_owned(),
    };
    Ok(output.line(format!("{} {summary}", if v.ok { "pass:" } else { "FAIL:" }))?)
}

fn cases(verification: &Verification) -> Table {
    let mut table = crate::cli::output::table();
    let with_fp32 = verification.cosine_to_fp32_min.is_some();
    let mut header = vec!["", "input", "cosine"];
    header.extend(with_fp32.then_some("to fp32"));
    header.push("tokens");
    table.set_header(header);
    for Case { modality, input, cosine, cosine_to_fp32, tokens_equal } in &verification.cases {
        let mut cells = vec![(*modality).to_owned(), input.clone(), format!("{cosine:.6}")];
        if with_fp32 {
            cells.push(cosine_to_fp32.map_or(String::new(), |cosine| format!("{cosine:.6}")));
        }
        let tokens = tokens_equal.map(|equal| if equal { "equal" } else { "DIFFER" });
        cells.push(tokens.unwrap_or_default().to_owned());
        table.add_row(cells);
    }
    table
}
