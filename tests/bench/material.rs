//! The files to store: the same bytes on every machine.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Words of the invented language.
const WORDS: usize = 12_000;
/// Frequent followers of a word.
const FOLLOWERS: usize = 10;
/// How often one of these follows.
const FOLLOWS: f64 = 0.6;

/// Writes a file of text and fsyncs it.
pub(crate) fn text_file(folder: &Path, len: usize) -> PathBuf {
    write(folder.join("text"), text(len).as_bytes())
}

/// Writes a file of random bytes and fsyncs it.
pub(crate) fn random_file(folder: &Path, len: usize) -> PathBuf {
    write(folder.join("random"), &random(1, len))
}

pub(crate) fn random(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}

fn write(path: PathBuf, bytes: &[u8]) -> PathBuf {
    let mut file = File::create(&path).unwrap();
    file.write_all(bytes).unwrap();
    file.sync_all().unwrap();
    path
}

/// Text that compresses like English: few words are frequent and most are rare (Zipf's law), and each word has usual
/// followers. `xz -9e` reduces it to between a quarter and a third, as it does books.
fn text(len: usize) -> String {
    let mut rng = fastrand::Rng::with_seed(7);
    let words = vocabulary(&mut rng);
    let zipf = Zipf::new(WORDS);
    let followers = Zipf::new(FOLLOWERS);
    let usual: Vec<Vec<usize>> = (0..WORDS).map(|_| (0..FOLLOWERS).map(|_| zipf.draw(&mut rng)).collect()).collect();
    let mut text = String::with_capacity(len + 200);
    let mut word = 0;
    while text.len() < len {
        for sentence in 0..rng.usize(3..9) {
            let words_in_it = rng.usize(5..25);
            for place in 0..words_in_it {
                word = if rng.f64() < FOLLOWS { usual[word][followers.draw(&mut rng)] } else { zipf.draw(&mut rng) };
                match (sentence, place) {
                    (0, 0) => {}
                    (_, 0) => text.push_str(". "),
                    _ if rng.u8(..) < 20 => text.push_str(", "),
                    _ => text.push(' '),
                }
                let (first, rest) = words[word].split_at(1);
                text.push_str(&if place == 0 { first.to_uppercase() } else { first.to_owned() });
                text.push_str(rest);
            }
        }
        text.push_str(".\n\n");
    }
    // The text is ASCII.
    text.truncate(len);
    text
}

/// Words whose letters are as frequent as in English. Frequent words are short.
fn vocabulary(rng: &mut fastrand::Rng) -> Vec<String> {
    const CONSONANTS: &[u8] = b"tttttttnnnnnnssssssrrrrrhhhhhllllddddcccmmffppggwwybbvkxjqz";
    const VOWELS: &[u8] = b"eeeeeeeeeeeeaaaaaaaaiiiiiiioooooooouuuuy";
    let letter = |letters: &[u8], rng: &mut fastrand::Rng| char::from(letters[rng.usize(..letters.len())]);
    (0..WORDS)
        .map(|rank| {
            let syllables = 1 + usize::from(rank > 60) + rng.usize(0..2) + usize::from(rank > 2000) * rng.usize(0..2);
            let mut word = String::new();
            for _ in 0..syllables {
                if rng.u8(..) < 220 {
                    word.push(letter(CONSONANTS, rng));
                }
                word.push(letter(VOWELS, rng));
                if rng.u8(..) < 100 {
                    word.push(letter(CONSONANTS, rng));
                }
            }
            word
        })
        .collect()
}

/// Draws numbers; the n-th is n times rarer than the first.
struct Zipf {
    sums: Vec<u64>,
}

impl Zipf {
    fn new(count: usize) -> Self {
        let weights = (1..=count as u64).map(|rank| 1_000_000 / rank);
        let sums = weights.scan(0, |sum, weight| {
            *sum += weight;
            Some(*sum)
        });
        Self { sums: sums.collect() }
    }

    fn draw(&self, rng: &mut fastrand::Rng) -> usize {
        let at = rng.u64(..self.sums[self.sums.len() - 1]);
        self.sums.partition_point(|&sum| sum <= at)
    }
}
