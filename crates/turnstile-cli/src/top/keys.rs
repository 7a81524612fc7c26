//! What the keys do: which section and row is chosen, and how each section is sorted.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::view::Section;

/// What a key asks for beyond another look of the screen.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    Draw,
    Ask,
    Quit,
}

/// What has been chosen.
#[derive(Default)]
pub struct Chosen {
    pub section: usize,
    /// For each section.
    looks: Vec<Look>,
}

/// How a section is looked at.
#[derive(Default, Clone, Copy)]
pub struct Look {
    /// The row.
    pub row: usize,
    /// The first row that is drawn.
    pub top: usize,
    /// The column that it is sorted by; none for what somebody should look at.
    pub sort: Option<usize>,
}

impl Chosen {
    /// Fits to what there is now.
    pub fn fit(&mut self, sections: &[Section]) {
        self.looks.resize(sections.len(), Look::default());
        for (look, section) in self.looks.iter_mut().zip(sections) {
            look.row = look.row.min(section.rows.len().saturating_sub(1));
        }
    }

    /// How a section is looked at.
    pub fn look(&mut self, section: usize) -> &mut Look {
        if self.looks.len() <= section {
            self.looks.resize(section + 1, Look::default());
        }
        &mut self.looks[section]
    }

    /// Does what a key says.
    pub fn on(&mut self, key: KeyEvent, sections: &[Section]) -> Action {
        if key.kind == KeyEventKind::Release || sections.is_empty() {
            return Action::Draw;
        }
        let all = sections.len();
        let section = self.section;
        let (rows, columns) = (sections[section].rows.len(), sections[section].head.len());
        let look = self.look(section);
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Action::Quit,
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Action::Quit,
            KeyCode::Char('r') => return Action::Ask,
            KeyCode::Tab | KeyCode::Right | KeyCode::Char('l') => self.section = (section + 1) % all,
            KeyCode::BackTab | KeyCode::Left | KeyCode::Char('h') => self.section = (section + all - 1) % all,
            KeyCode::Down | KeyCode::Char('j') => look.row = (look.row + 1).min(rows.saturating_sub(1)),
            KeyCode::Up | KeyCode::Char('k') => look.row = look.row.saturating_sub(1),
            KeyCode::PageDown => look.row = (look.row + 10).min(rows.saturating_sub(1)),
            KeyCode::PageUp => look.row = look.row.saturating_sub(10),
            KeyCode::Home => look.row = 0,
            KeyCode::End => look.row = rows.saturating_sub(1),
            KeyCode::Char('s') => {
                // The last column is what it is sorted by without one.
                look.sort = Some(look.sort.map_or(0, |column| column + 1)).filter(|column| column + 1 < columns);
            }
            _ => {}
        }
        Action::Draw
    }
}
