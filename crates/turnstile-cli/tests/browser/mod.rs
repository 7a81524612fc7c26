//! Looks at a page in a real browser, as a phone and a screen show it, in light and in dark. The browser is the program that
//! `TURNSTILE_BROWSER` names, or a Chromium on the PATH.

mod devtools;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde_json::json;

use self::devtools::Browser;

const NAMES: &[&str] =
    &["chromium", "chromium-headless-shell", "chromium-browser", "google-chrome", "google-chrome-stable"];
/// Wide and high.
const SIZES: [(u32, u32); 2] = [(360, 740), (1280, 900)];

fn program() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("TURNSTILE_BROWSER") {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH")?;
    let mut places = NAMES.iter().flat_map(|name| std::env::split_paths(&path).map(move |folder| folder.join(name)));
    places.find(|place| place.is_file())
}

/// Somebody who looks at pages. Where there is no browser and none is named, nobody does, and that is said.
pub struct Eye(Browser);

impl Eye {
    pub fn open() -> Result<Option<Self>> {
        let Some(program) = program() else {
            eprintln!(
                "\nNOBODY LOOKS AT THE LAB'S PAGE: there is no browser. Install one (./justw setup browser), or name one in \
                 TURNSTILE_BROWSER.\n"
            );
            return Ok(None);
        };
        Ok(Some(Self(Browser::start(&program)?)))
    }

    /// What is wrong with the page in this file: nothing, it is to be hoped.
    pub fn look(&mut self, page: &Path) -> Result<Vec<String>> {
        let browser = &mut self.0;
        let url = format!("file://{}", page.canonicalize()?.display());
        let mut faults = Vec::new();
        for (width, height) in SIZES {
            let mut grounds = Vec::new();
            for scheme in ["light", "dark"] {
                let screen = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
                browser.ask("Emulation.setDeviceMetricsOverride", screen)?;
                let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
                browser.ask("Emulation.setEmulatedMedia", media)?;
                let mut found = browser.open(&url)?;
                let seen = browser.evaluate(include_str!("look.js"))?;
                // A phone shows all of a page that is too wide, and makes it small.
                if seen["width"] != width {
                    found.push(format!("it is {} wide where {width} are to be had", seen["width"]));
                }
                let Some(list) = seen["faults"].as_array() else { bail!("no list: {seen}") };
                found.extend(list.iter().filter_map(|fault| fault.as_str().map(str::to_owned)));
                grounds.push(seen["ground"].clone());
                faults.extend(found.into_iter().map(|fault| format!("{width} wide, {scheme}: {fault}")));
            }
            if grounds[0] == grounds[1] {
                faults.push(format!("{width} wide: light and dark have one ground, {}", grounds[0]));
            }
        }
        Ok(faults)
    }

    /// The same with one that has no charts.
    pub fn look_at_text(&mut self, page: &Path) -> Result<Vec<String>> {
        let mut faults = self.look(page)?;
        faults.retain(|fault| !fault.ends_with("it has no charts"));
        Ok(faults)
    }

    pub fn close(self) -> Result<()> {
        self.0.end()
    }
}
