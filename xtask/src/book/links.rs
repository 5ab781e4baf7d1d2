//! Links between the pages that were built, to their anchors, and to files of the repository.

use std::collections::{HashMap, HashSet};
use std::path::{Component, Path, PathBuf};

use super::{read, shown};
use crate::Outcome;

/// The links that lead nowhere.
pub(super) fn check(pages: &[PathBuf]) -> Outcome<Vec<String>> {
    let mut texts = HashMap::new();
    for page in pages {
        texts.insert(page.clone(), read(page)?);
    }
    let anchors: HashMap<&Path, HashSet<&str>> = texts
        .iter()
        .map(|(page, text)| (page.as_path(), attributes(text, "id").collect()))
        .collect();
    let mut broken = Vec::new();
    for page in pages.iter().filter(|page| is_read(page)) {
        let text = &texts[page];
        let links = attributes(text, "href").chain(attributes(text, "src"));
        let wrong = links.filter_map(|link| Some((link, follow(page, link, &anchors)?)));
        broken.extend(wrong.map(|(link, why)| format!("{}: {link}: {why}", shown(page))));
    }
    Ok(broken)
}

/// All but those that repeat the others with links that mdBook rewrites for its own use.
fn is_read(page: &Path) -> bool {
    !matches!(
        page.file_name().and_then(|name| name.to_str()),
        Some("404.html" | "print.html" | "toc.html")
    )
}

/// Returns the reason why the link leads nowhere; `None` if it leads somewhere, or to another site.
fn follow(page: &Path, link: &str, anchors: &HashMap<&Path, HashSet<&str>>) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") || link.starts_with("data:") {
        return None;
    }
    let (path, anchor) =
        link.split_once('#').map_or((link, None), |(path, anchor)| (path, Some(anchor)));
    let target = match path {
        "" => page.to_owned(),
        _ => flat(&page.parent().expect("a page is a file in a folder").join(path)),
    };
    if !target.exists() {
        return Some("there is no such page or file".to_owned());
    }
    let anchor = anchor.filter(|anchor| !anchor.is_empty())?;
    let known = anchors.get(target.as_path())?;
    (!known.contains(anchor)).then(|| "there is no such heading".to_owned())
}

/// The path without `..`, as a browser sees it.
fn flat(path: &Path) -> PathBuf {
    let mut flat = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(flat.pop()),
            other => flat.push(other),
        }
    }
    flat
}

/// The values of an attribute, in tags only: quotes in text are escaped in what mdBook writes, but
/// code between tags might contain the name.
fn attributes<'a>(html: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    let tags = html.split('<').skip(1).filter_map(|tag| tag.split_once('>')).map(|(tag, _)| tag);
    tags.filter_map(move |tag| {
        let mut rest = tag;
        loop {
            let (before, after) = rest.split_once(name)?;
            let is_whole = before.ends_with(char::is_whitespace);
            match after.strip_prefix("=\"") {
                Some(value) if is_whole => return value.split_once('"').map(|(value, _)| value),
                _ => rest = after,
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_in_tags_only_and_by_their_whole_name() {
        let html = r#"<a class="x" href="a.html#b">href="no"</a><p data-href="no" id="c"><code>id=&quot;</code>"#;
        assert_eq!(attributes(html, "href").collect::<Vec<_>>(), ["a.html#b"]);
        assert_eq!(attributes(html, "id").collect::<Vec<_>>(), ["c"]);
    }

    #[test]
    fn a_link_leads_to_a_page_a_heading_or_a_file_of_the_repository() {
        let page = crate::root().join("target/book/a.html");
        let anchors = HashMap::from([(page.as_path(), HashSet::from(["one"]))]);
        let why = |link: &str| follow(&page, link, &anchors);
        assert_eq!(why("https://example.org/none"), None);
        assert_eq!(why("../../examples/rover.rs"), None);
        assert!(why("../../examples/none.rs").unwrap().contains("no such page or file"));
        // The page itself is not there in this test, but a heading is looked up where it is.
        let here = crate::root().join("Cargo.toml");
        let anchors = HashMap::from([(here.as_path(), HashSet::from(["one"]))]);
        assert_eq!(follow(&here, "#one", &anchors), None);
        assert!(follow(&here, "#two", &anchors).unwrap().contains("no such heading"));
    }
}
