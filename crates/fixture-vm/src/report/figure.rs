//! A picture on the page with its caption, and the numbers behind it as a table.

use maud::{Markup, html};

use super::svg::Picture;

/// A picture, what to see in it, and its numbers.
pub struct Figure {
    /// The picture.
    pub picture: Picture,
    /// What to see in it.
    pub caption: Markup,
    /// The numbers.
    pub table: Table,
    /// Whether it has an axis, so that it is scrolled on a small screen rather than shrunk.
    pub is_chart: bool,
}

impl Figure {
    /// The figure on the page.
    pub fn render(&self) -> Markup {
        let Self { picture, caption, table, is_chart } = self;
        html! {
            figure {
                div .scroll .chart[*is_chart] tabindex=[is_chart.then_some("0")] role=[is_chart.then_some("group")]
                    aria-label=[is_chart.then_some(&picture.title)] { (picture.inline()) }
                figcaption { (caption) }
                details {
                    summary { "The numbers: " (picture.title) }
                    (table.render(&picture.name))
                }
            }
        }
    }
}

/// Rows of numbers. The first column names the row.
pub struct Table {
    /// What the columns are, and whether they hold numbers.
    pub head: Vec<(&'static str, bool)>,
    /// The cells.
    pub rows: Vec<Vec<Markup>>,
}

impl Table {
    /// The table, which programs find by the name of what it belongs to.
    pub fn render(&self, of: &str) -> Markup {
        html! {
            div .scroll tabindex="0" role="group" aria-label="Table" {
                table data-of=(of) {
                    thead { tr { @for (title, is_number) in &self.head { th scope="col" .num[*is_number] { (title) } } } }
                    tbody {
                        @for row in &self.rows {
                            tr {
                                @for (index, (cell, (_, is_number))) in row.iter().zip(&self.head).enumerate() {
                                    @if index == 0 { th scope="row" { (cell) } }
                                    @else { td .num[*is_number] { (cell) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// One subject of the page.
pub struct Section {
    /// Its anchor.
    pub id: &'static str,
    /// Its heading.
    pub title: &'static str,
    /// What it is about.
    pub lead: Markup,
    /// Its pictures, each with a heading if it has one.
    pub figures: Vec<(Option<String>, Vec<Figure>)>,
    /// What stands after them.
    pub rest: Markup,
}

impl Section {
    /// The section on the page. Figures that belong together stand side by side where there is room.
    pub fn render(&self) -> Markup {
        let Self { id, title, lead, figures, rest } = self;
        html! {
            section id=(id) aria-labelledby={ (id) "-heading" } {
                h2 id={ (id) "-heading" } { (title) }
                (lead)
                @for (heading, group) in figures {
                    @if let Some(heading) = heading { h3 { (heading) } }
                    @if let [one] = group.as_slice() { (one.render()) }
                    @else { div .pair { @for figure in group { (figure.render()) } } }
                }
                (rest)
            }
        }
    }
}
