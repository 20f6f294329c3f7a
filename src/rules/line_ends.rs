//! The line ends of template files: a line with only `{% %}` leaves no line behind, and any other line keeps its end.
//!
//! Jinja's `trim_blocks` leaves out the end of every line whose last part is a `{% %}`. It would make one line of
//! `append{% if arch %} {{ arch }}{% endif %}` and the next one.

/// The same template for `trim_blocks`: where a line with other text ends with `%}`, a `+` in it keeps the end of the
/// line. The numbers of lines stay.
pub(super) fn kept(template: &str) -> String {
    let mut out = String::with_capacity(template.len() + 64);
    let (mut rest, mut has_text) = (template, false);
    while let Some((text, tag)) = rest.find('{').map(|at| rest.split_at(at)) {
        has_text = ends_in_text(text, has_text);
        out.push_str(text);
        let end = match tag.get(1..2) {
            Some("%") => "%}",
            Some("#") => "#}",
            Some("{") => "}}",
            _ => {
                (rest, has_text) = (&tag[1..], true);
                out.push('{');
                continue;
            }
        };
        let Some(at) = tag[2..].find(end) else {
            rest = tag;
            break;
        };
        let (inner, after) = (&tag[2..2 + at], &tag[2 + at + end.len()..]);
        has_text |= end == "}}";
        let is_cut = end != "}}" && !inner.ends_with(['-', '+']) && after.starts_with(['\r', '\n']);
        out.extend([&tag[..2 + at], if has_text && is_cut { "+" } else { "" }, end]);
        let is_raw = end == "%}" && inner.trim_matches(['-', '+', ' ']) == "raw";
        let literal = if is_raw { after.find("endraw").and_then(|at| after[..at].rfind("{%")) } else { None };
        let (literal, after) = after.split_at(literal.unwrap_or(0));
        has_text = ends_in_text(literal, has_text);
        out.push_str(literal);
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Whether the line at the end of this text has more than blanks. `before`: whether the line had more before the text.
fn ends_in_text(text: &str, before: bool) -> bool {
    let line = text.rsplit('\n').next().unwrap_or(text);
    before && line.len() == text.len() || !line.trim().is_empty()
}
