//! Pieces of a page. Every text that comes from outside passes [`escape`].

use raidtape::model::path::is_control;

/// Text that is safe between tags and in quoted attributes; control characters are shown, not sent.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            control if is_control(control) => safe.extend(control.escape_default()),
            other => safe.push(other),
        }
    }
    safe
}

/// A table whose first column names the row; cells are escaped here.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut html = String::from("<div class=\"scroll\"><table><thead><tr>");
    for name in header {
        html.push_str(&format!("<th scope=\"col\">{}</th>", escape(name)));
    }
    html.push_str("</tr></thead><tbody>");
    for row in rows {
        html.push_str("<tr>");
        for (index, cell) in row.iter().enumerate() {
            let cell = escape(cell);
            html.push_str(&if index == 0 {
                format!("<th scope=\"row\">{cell}</th>")
            } else {
                format!("<td>{cell}</td>")
            });
        }
        html.push_str("</tr>");
    }
    html.push_str("</tbody></table></div>");
    html
}

/// A chart with its caption, and the same as a table that opens on a click, without a script.
pub fn figure(caption: &str, svg: &str, (header, rows): (&[&str], &[Vec<String>])) -> String {
    format!(
        "<figure><figcaption>{}</figcaption>{svg}<details><summary>As a table</summary>{}</details></figure>",
        escape(caption),
        table(header, rows)
    )
}

/// A part of the page; `body` is HTML.
pub fn section(title: &str, lead: &str, body: &str) -> String {
    format!("<section><h2>{}</h2><p class=\"lead\">{}</p>{body}</section>", escape(title), escape(lead))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_outside_becomes_a_tag_or_ends_an_attribute() {
        let hostile = "<script>'\"&\u{1b}[31m\u{202e}\n";
        assert_eq!(escape(hostile), "&lt;script&gt;&#39;&quot;&amp;\\u{1b}[31m\\u{202e}\\n");
        let html = table(&["<b>"], &[vec!["<i>".to_owned(), "</td>".to_owned()]]) + &figure("<u>", "", (&[], &[]));
        assert!(!html.contains("<b>") && !html.contains("<i>") && !html.contains("<u>"), "{html}");
        assert_eq!(html.matches("</td>").count(), 1);
    }
}
