//! The lab's pages in a real browser: those in the book, and that each fault of a page is seen. The pages of whole runs are
//! looked at in `lab.rs`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod browser;

use std::path::{Path, PathBuf};

use browser::Eye;

fn in_the_book(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/src").join(name)
}

#[test]
fn the_reports_in_the_book_look_right_on_a_phone_and_a_screen_in_light_and_dark() {
    let Some(mut eye) = Eye::open().unwrap() else { return };
    assert_eq!(eye.look(&in_the_book("lab-report.html")).unwrap(), Vec::<String>::new());
    assert_eq!(eye.look_at_text(&in_the_book("soak-report.html")).unwrap(), Vec::<String>::new());
    eye.close().unwrap();
}

#[test]
fn the_reports_in_the_book_are_small_and_name_nothing_of_the_machine_that_they_were_made_on() {
    for report in ["lab-report.html", "soak-report.html"] {
        let page = std::fs::read_to_string(in_the_book(report)).unwrap();
        assert!(page.len() < 500_000, "{}", page.len());
        for part in ["/tmp", "/root", "/home", "/work", "localhost", "127.0.0.1", "http:", "https:", "src="] {
            assert!(!page.contains(part), "{part} in {report}");
        }
    }
}

#[test]
fn faults_of_a_page_are_seen() {
    const POLICY: &str = "<meta http-equiv=Content-Security-Policy";
    let page = std::fs::read_to_string(in_the_book("lab-report.html")).unwrap();
    let begin = page.find("<svg").unwrap();
    let svg = &page[begin..begin + page[begin..].find("</svg>").unwrap()];
    let drawn: String = svg.lines().filter(|line| !line.starts_with("<rect") && !line.starts_with("<line")).collect();
    let with = |element: &str| page.replacen("</main>", &format!("{element}</main>"), 1);
    let faults = [
        ("wide where", with("<div style=\"width:99rem\">wide</div>")),
        ("asks for", with("<img alt=x src=\"http://127.0.0.1:9/\">").replace(POLICY, "<meta name=x")),
        ("the browser says", with("<script>1</script>")),
        ("it says", with("<script>console.error(1)</script>").replace(POLICY, "<meta name=x")),
        ("it throws", with("<script>throw 1</script>").replace(POLICY, "<meta name=x")),
        ("charts overlap", with("<style>figure{margin-bottom:-9rem}</style>")),
        ("no charts", page.replace("<figure", "<div").replace("</figure", "</div")),
        ("no text in its stead", page.replacen(" role=img", "", 1)),
        ("empty plot", page.replacen(svg, &drawn, 1)),
        ("outside of the plot", with("<style>rect{height:99rem}</style>")),
        ("outside of the chart", with("<style>.plot{padding:0!important}figure{padding:0!important}</style>")),
        ("too small", with("<style>svg{font-size:6px!important}</style>")),
        ("overlap", with("<style>svg text{font-size:40px}</style>")),
        ("contrast", with("<style>:root{--text:#8888;--dim:#888}</style>")),
        ("one ground", page.replace("prefers-color-scheme: dark", "prefers-color-scheme: none")),
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("page.html");
    let Some(mut eye) = Eye::open().unwrap() else { return };
    for (expected, page) in faults {
        std::fs::write(&path, page).unwrap();
        let found = eye.look(&path).unwrap();
        assert!(found.iter().any(|fault| fault.contains(expected)), "{expected}: {found:?}");
    }
}
