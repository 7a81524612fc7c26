//! The front pages and the book in `docs/`: their Rust is compiled, and what they name is there.

/// Pages whose Rust is compiled, as doctests.
macro_rules! compiled {
    ($($name:ident $page:literal)*) => {
        $(
            #[doc = concat!("`", $page, "`.")]
            ///
            #[cfg(doctest)]
            #[doc = include_str!(concat!("../../", $page))]
            pub struct $name;
        )*
        #[cfg(test)]
        const COMPILED: &[&str] = &[$($page),*];
    };
}

compiled! {
    FrontPage "README.md"
    FrontPageInKorean "README.ko.md"
    Locks "docs/src/locks.md"
    FairLocks "docs/src/fair-locks.md"
    Quorums "docs/src/quorums.md"
    Permits "docs/src/permits.md"
    Scripts "docs/src/scripts.md"
    Queues "docs/src/queues.md"
    Offsets "docs/src/offsets.md"
    Groups "docs/src/groups.md"
    Migrating "docs/src/migrating.md"
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::COMPILED;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    fn read(path: impl AsRef<Path>) -> String {
        let path = path.as_ref();
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// All files below `folder` that end so.
    fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.extend(files(&path, ending));
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
        found
    }

    /// The front pages, and the chapters of the book, from the root.
    fn pages() -> Vec<String> {
        let docs = root().join("docs/src");
        let chapters = files(&docs, ".md").into_iter().map(|path| {
            let chapter = path.strip_prefix(&docs).unwrap().to_string_lossy().replace('\\', "/");
            format!("docs/src/{chapter}")
        });
        let fronts = files_in_root().into_iter().filter(|name| name.starts_with("README"));
        chapters.chain(fronts).collect()
    }

    fn files_in_root() -> Vec<String> {
        let names =
            fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
        names.filter(|name| name.ends_with(".md")).collect()
    }

    /// What stands between backquotes in the text.
    fn code(text: &str) -> impl Iterator<Item = &str> {
        text.split('`').skip(1).step_by(2)
    }

    fn has_word(text: &str, word: &str) -> bool {
        text.match_indices(word).any(|(at, _)| {
            let around = [text[..at].chars().next_back(), text[at + word.len()..].chars().next()];
            !around.into_iter().flatten().any(|char| char.is_alphanumeric() || char == '_')
        })
    }

    /// The sources of the tests that a claim's `CRATE/FILE.rs` means.
    fn sources(of: &str) -> String {
        let (package, file) = of.split_once('/').unwrap_or_else(|| panic!("{of:?} is no crate and file"));
        let tests = match package {
            "integration-tests" => root().join("integration-tests/tests"),
            package => root().join(format!("crates/{package}/tests")),
        };
        let mut paths = files(&tests.join(file.trim_end_matches(".rs")), ".rs");
        if paths.is_empty() || tests.join(file).exists() {
            paths.push(tests.join(file));
        }
        paths.iter().map(read).collect()
    }

    #[test]
    fn every_page_with_rust_is_compiled() {
        let pages = pages().into_iter().filter(|page| read(root().join(page)).contains("```rust"));
        let compiled = COMPILED.iter().map(ToString::to_string).collect();
        assert_eq!(pages.collect::<BTreeSet<_>>(), compiled, "with Rust, and named in `compiled!` above");
    }

    #[test]
    fn every_chapter_is_in_the_summary_and_the_other_way_round() {
        let summary = read(root().join("docs/src/SUMMARY.md"));
        let linked: BTreeSet<_> =
            summary.split("](").skip(1).map(|rest| rest.split(')').next().unwrap().to_owned()).collect();
        let there = pages().into_iter().filter_map(|page| page.strip_prefix("docs/src/").map(str::to_owned));
        assert_eq!(there.filter(|chapter| chapter != "SUMMARY.md").collect::<BTreeSet<_>>(), linked);
    }

    #[test]
    fn every_test_that_a_claim_names_exists() {
        let claims = read(root().join("docs/src/claims.md"));
        let named: Vec<_> = code(&claims).filter_map(|code| code.split_once(".rs: ")).collect();
        assert!(named.len() > 100, "only {}", named.len());
        let missing = named.iter().filter(|(file, test)| !has_word(&sources(&format!("{file}.rs")), test));
        assert_eq!(missing.collect::<Vec<_>>(), Vec::<&(&str, &str)>::new());
        assert!(
            !has_word(&sources("redis-lock/who.rs"), "a_test_that_is_not_there"),
            "and one that does not is noticed"
        );
    }

    #[test]
    fn every_metric_that_is_named_exists() {
        let sources: String = files(&root().join("crates"), ".rs").iter().map(read).collect();
        for page in pages() {
            for name in code(&read(root().join(&page))).filter(|code| code.starts_with("turnstile_")) {
                assert!(has_word(&sources, name.split('{').next().unwrap()), "{page}: {name}");
            }
        }
    }

    #[test]
    fn every_link_within_the_repository_leads_somewhere() {
        for page in pages() {
            let path = root().join(&page);
            for link in read(&path).split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
                let (file, heading) = link.split_once('#').unwrap_or((link, ""));
                if link.contains("://") {
                    continue;
                }
                let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
                assert!(target.exists(), "{page}: {link}");
                if !heading.is_empty() {
                    let text = read(if target.is_dir() { target.join("README.md") } else { target });
                    let mut headings = text.lines().filter(|line| line.starts_with('#')).map(anchor);
                    assert!(headings.any(|anchor| anchor == heading), "{page}: {link}");
                }
            }
        }
    }

    /// The anchor of a heading.
    fn anchor(heading: &str) -> String {
        let words = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = words.chars().filter(|char| char.is_alphanumeric() || matches!(char, ' ' | '-' | '_'));
        kept.map(|char| if char == ' ' { '-' } else { char }).collect()
    }
}
