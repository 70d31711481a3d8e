//! Where nodes of a network are drawn: as far apart as there are links between them, by stress majorization
//! (Gansner, Koren, North: Graph Drawing by Stress Majorization, 2004); the same network, the same places.

/// Rounds after which no place moves by a pixel in networks of the size that a guest runs.
const ROUNDS: usize = 300;
/// Nodes that are this near to a line through the drawing are put on it: towards a straight chain the last
/// bit of the way takes for ever.
const IS_NEAR: f64 = 0.25;
/// A drawing that is narrower than this share of its length is laid on its side.
const IS_LONG: f64 = 0.7;

/// Places of `nodes` nodes, in units of a link's length; each link is a pair of nodes.
pub fn places(nodes: usize, links: &[(usize, usize)]) -> Vec<(f64, f64)> {
    let distance = distances(nodes, links);
    let mut at = circle(nodes);
    for _ in 0..ROUNDS {
        at = (0..nodes).map(|i| better(i, &at, &distance)).collect();
    }
    upright(at)
}

/// The places to begin with: clockwise from the top.
fn circle(nodes: usize) -> Vec<(f64, f64)> {
    let place = |index: usize| {
        let turn = std::f64::consts::TAU * index as f64 / nodes as f64;
        (turn.sin(), -turn.cos())
    };
    (0..nodes).map(place).collect()
}

/// How many links are between each two nodes; those without a way are a little further than any others.
fn distances(nodes: usize, links: &[(usize, usize)]) -> Vec<Vec<f64>> {
    let mut all = vec![vec![f64::INFINITY; nodes]; nodes];
    for (i, row) in all.iter_mut().enumerate() {
        row[i] = 0.0;
    }
    for (a, b) in links.iter().filter(|(a, b)| a != b) {
        all[*a][*b] = 1.0;
        all[*b][*a] = 1.0;
    }
    for k in 0..nodes {
        for i in 0..nodes {
            for j in 0..nodes {
                all[i][j] = all[i][j].min(all[i][k] + all[k][j]);
            }
        }
    }
    let longest = all.iter().flatten().filter(|way| way.is_finite()).fold(0.0, |a: f64, b| a.max(*b));
    for way in all.iter_mut().flatten().filter(|way| way.is_infinite()) {
        *way = longest + 1.0;
    }
    all
}

/// Where a node would rather be: the mean of the places that each other wishes it at, near ones counting most.
fn better(i: usize, at: &[(f64, f64)], distance: &[Vec<f64>]) -> (f64, f64) {
    let (mut sum, mut weights) = ((0.0, 0.0), 0.0);
    for (j, (x, y)) in at.iter().enumerate().filter(|(j, _)| *j != i) {
        let wish = distance[i][j];
        let weight = 1.0 / (wish * wish);
        let (dx, dy) = (at[i].0 - x, at[i].1 - y);
        let apart = dx.hypot(dy).max(1e-9);
        sum.0 += weight * (x + wish * dx / apart);
        sum.1 += weight * (y + wish * dy / apart);
        weights += weight;
    }
    if weights == 0.0 { at[i] } else { (sum.0 / weights, sum.1 / weights) }
}

/// Turned so that the long side lies flat, with the first node on the left; a round drawing stays as it is.
fn upright(at: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let count = at.len().max(1) as f64;
    let mean = at.iter().fold((0.0, 0.0), |sum, place| (sum.0 + place.0 / count, sum.1 + place.1 / count));
    let at: Vec<_> = at.iter().map(|(x, y)| (x - mean.0, y - mean.1)).collect();
    let (xx, yy, xy) =
        at.iter().fold((0.0, 0.0, 0.0), |(xx, yy, xy), (x, y)| (xx + x * x, yy + y * y, xy + x * y));
    // The axes of the scatter's ellipse.
    let root = ((xx - yy) * (xx - yy) / 4.0 + xy * xy).sqrt();
    let (long, short) = ((xx + yy) / 2.0 + root, ((xx + yy) / 2.0 - root).max(0.0));
    if long <= 0.0 || short.sqrt() > IS_LONG * long.sqrt() {
        return at;
    }
    let turn = 0.5 * (2.0 * xy).atan2(xx - yy);
    let (sin, cos) = turn.sin_cos();
    let turned: Vec<_> = at.iter().map(|(x, y)| (x * cos + y * sin, y * cos - x * sin)).collect();
    let flip = if turned.first().is_some_and(|(x, _)| *x > 0.0) { -1.0 } else { 1.0 };
    let straight = |y: f64| if y.abs() < IS_NEAR { 0.0 } else { y };
    turned.into_iter().map(|(x, y)| (x * flip, straight(y * flip))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: (f64, f64), b: (f64, f64)) -> bool {
        (a.0 - b.0).hypot(a.1 - b.1) < 0.05
    }

    #[test]
    fn a_chain_lies_flat_from_the_first_node_on() {
        let at = places(3, &[(0, 1), (1, 2)]);
        assert!(near(at[0], (-1.0, 0.0)) && near(at[1], (0.0, 0.0)) && near(at[2], (1.0, 0.0)), "{at:?}");
    }

    #[test]
    fn a_ring_is_round_and_begins_at_the_top() {
        let at = places(4, &[(0, 1), (1, 2), (2, 3), (3, 0)]);
        assert!(at[0].1 < -0.5 && at[1].0 > 0.5 && at[2].1 > 0.5 && at[3].0 < -0.5, "{at:?}");
    }

    #[test]
    fn odd_networks_have_places() {
        assert!(places(0, &[]).is_empty());
        assert_eq!(places(1, &[]).len(), 1);
        let apart = places(4, &[(0, 1), (2, 3)]);
        assert!(apart.iter().all(|(x, y)| x.is_finite() && y.is_finite()), "{apart:?}");
    }
}
