//! The curves as SVG: one picture per name, with the lines of both ways to keep the data.

use std::path::Path;

use anyhow::Context as _;
use plotters::coord::ranged1d::ValueFormatter;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::{Curve, In};

const SIZE: (u32, u32) = (860, 480);

pub(super) fn write(curves: &[In<Curve>], directory: &Path) -> anyhow::Result<()> {
    let mut names: Vec<&str> = curves.iter().map(|curve| curve.what.name).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let together: Vec<&In<Curve>> = curves.iter().filter(|curve| curve.what.name == name).collect();
        let text = draw(&together).with_context(|| format!("drawing {name}"))?;
        std::fs::write(directory.join(name).with_extension("svg"), text)?;
    }
    Ok(())
}

fn draw(curves: &[&In<Curve>]) -> anyhow::Result<String> {
    let first = &curves.first().context("there is no curve")?.what;
    let points = || curves.iter().flat_map(|curve| &curve.what.lines).flat_map(|(_, points)| points);
    let left = points().map(|(x, _)| *x).fold(f64::INFINITY, f64::min);
    let right = points().map(|(x, _)| *x).fold(f64::NEG_INFINITY, f64::max);
    let top = points().map(|(_, y)| *y).fold(0.0, f64::max);
    let mut text = String::new();
    let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut builder = ChartBuilder::on(&area);
    builder.caption(first.title, ("sans-serif", 20)).margin(12).x_label_area_size(44).y_label_area_size(72);
    let rows = 0.0..(top * 1.1).max(f64::MIN_POSITIVE);
    // Sizes that span decades are read on a logarithmic axis.
    if left > 0.0 && right / left >= 50.0 {
        lines(builder.build_cartesian_2d((left..right).log_scale(), rows)?, first, curves)?;
    } else {
        lines(builder.build_cartesian_2d(left..right.max(left + 1.0), rows)?, first, curves)?;
    }
    area.present()?;
    drop(area);
    Ok(text)
}

fn lines<'a, X>(
    mut chart: ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, RangedCoordf64>>,
    first: &Curve,
    curves: &[&In<Curve>],
) -> anyhow::Result<()>
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    chart.configure_mesh().light_line_style(BLACK.mix(0.05)).x_desc(first.x).y_desc(first.y).draw()?;
    let named = curves.iter().flat_map(|curve| curve.what.lines.iter().map(|line| (curve.mode, line)));
    for (number, (mode, (name, points))) in named.enumerate() {
        let color = Palette99::pick(number).to_rgba();
        let label = if curves.len() > 1 { format!("{name}, {mode}") } else { name.clone() };
        chart
            .draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)).point_size(3))?
            .label(label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Mode;

    #[test]
    fn both_ways_to_keep_the_data_are_lines_of_one_picture() {
        for right in [50.0, 500_000.0] {
            let curve = |mode| In {
                mode,
                what: Curve {
                    name: "claim-cost",
                    title: "Claim",
                    x: "queued jobs",
                    y: "µs",
                    lines: vec![("claim".to_owned(), vec![(1000.0_f64.min(right / 2.0), 10.0), (right, 12.0)])],
                },
            };
            let directory = tempfile::tempdir().unwrap();
            write(&[curve(Mode::AofOff), curve(Mode::AofEverysec)], directory.path()).unwrap();
            let svg = std::fs::read_to_string(directory.path().join("claim-cost.svg")).unwrap();
            assert!(svg.contains("claim, AOF off") && svg.contains("claim, AOF everysec"), "{svg}");
        }
    }
}
