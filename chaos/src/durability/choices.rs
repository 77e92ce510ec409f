//! Which replicas are lost together.

/// All choices of `count` out of `replicas` in lexical order; when that is more than `max`, an even selection of them.
#[must_use]
pub fn choices(replicas: &[i32], count: usize, max: usize) -> Vec<Vec<i32>> {
    let mut all = Vec::new();
    extend(replicas, count, &mut Vec::new(), &mut all);
    if all.len() <= max {
        return all;
    }
    (0..max).map(|index| all[index * all.len() / max].clone()).collect()
}

fn extend(from: &[i32], count: usize, chosen: &mut Vec<i32>, all: &mut Vec<Vec<i32>>) {
    if count == 0 {
        all.push(chosen.clone());
        return;
    }
    for (index, id) in from.iter().enumerate() {
        chosen.push(*id);
        extend(&from[index + 1..], count - 1, chosen, all);
        chosen.pop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_of_two_out_of_three_are_all_three_pairs() {
        assert_eq!(choices(&[2, 4, 5], 2, 10), [[2, 4], [2, 5], [4, 5]]);
    }

    #[test]
    fn choices_beyond_the_maximum_are_thinned_evenly() {
        let thinned = choices(&[1, 2, 3, 4, 5], 2, 5);
        assert_eq!(thinned, [[1, 2], [1, 4], [2, 3], [2, 5], [3, 5]]);
    }

    #[test]
    fn choices_of_nobody_are_one_empty_choice() {
        assert_eq!(choices(&[1, 2], 0, 5), [Vec::<i32>::new()]);
    }
}
