//! The demo's results page: self-contained, without scripts, readable in light and dark mode.

use std::fmt::Write;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Report;
use crate::api::SearchHit;

/// A query with its hits, for one row of the page.
pub struct Row {
    pub query: String,
    pub hits: Vec<SearchHit>,
}

const STYLE: &str = "
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .75rem; margin: 1.5rem 0; }
dl div { border: 1px solid #8884; border-radius: .5rem; padding: .5rem .75rem; }
dt { font-size: .8rem; opacity: .7; }
dd { margin: 0; font-size: 1.25rem; font-variant-numeric: tabular-nums; }
ul { display: grid; grid-template-columns: repeat(auto-fill, minmax(6.5rem, 1fr)); gap: .5rem; padding: 0; list-style: none; }
li { text-align: center; font-size: .8rem; overflow-wrap: anywhere; }
img { width: 5rem; height: 5rem; object-fit: contain; background: #fff; border-radius: .5rem; padding: .25rem; }
small { opacity: .7; font-variant-numeric: tabular-nums; }
";

/// `images`: the folder with the hits' pictures (`ID.webp`).
pub fn render(report: &Report, rows: &[Row], images: &Path) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>clipstream demo</title>\n\
         <style>{STYLE}</style>\n<h1>clipstream demo</h1>\n\
         <p>Pictures and captions were consumed from Kafka, embedded and stored, one point per asset. \
         Below are the results of searching the pictures by text.</p>\n<dl>\n"
    );
    for (name, value) in report.figures() {
        let _ = writeln!(page, "<div><dt>{}</dt><dd>{}</dd></div>", escape(&name), escape(&value));
    }
    page.push_str("</dl>\n");
    for row in rows {
        let _ = writeln!(page, "<h2>{}</h2>\n<ul>", escape(&row.query));
        for hit in &row.hits {
            page.push_str(&cell(hit, images));
        }
        page.push_str("</ul>\n");
    }
    page.push_str("</html>\n");
    page
}

fn cell(hit: &SearchHit, images: &Path) -> String {
    let text = |key: &str| hit.payload.get(key).and_then(|v| v.as_str()).unwrap_or_default();
    let picture =
        hit.asset_id().and_then(|id| std::fs::read(images.join(format!("{id}.webp"))).ok()).unwrap_or_default();
    let (data, name) = (STANDARD.encode(picture), escape(text("name")));
    let score = hit.score;
    format!(
        "<li><img src=\"data:image/webp;base64,{data}\" alt=\"{name}\"><br>{name}<br><small>{score:.3}</small></li>\n"
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_break_out_of_the_page() {
        assert_eq!(escape("<b a=\"1\">&"), "&lt;b a=&quot;1&quot;&gt;&amp;");
    }
}
