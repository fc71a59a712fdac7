//! What can be told of an RSA modulus without factoring it. All of it is public, so nothing here
//! needs constant time, and num-bigint does.

use der::asn1::UintRef;
use der::{Decode, Reader, SliceReader};
use num_bigint::BigUint;

use super::{NotAKey, WeakKey};

/// An RSAPublicKey (RFC 8017 appendix A.1.1).
pub(super) struct Modulus {
    n: BigUint,
    e: Vec<u8>,
}

impl Modulus {
    /// Parses the content of the subjectPublicKey BIT STRING; says nothing about strength.
    pub(super) fn parse(bits: &[u8]) -> Result<Self, NotAKey> {
        const SHAPE: NotAKey = NotAKey("not a DER RSAPublicKey");
        let (n, e) = SliceReader::new(bits)
            .and_then(|mut reader| {
                let pair = reader.sequence(|inner| {
                    Ok::<_, der::Error>((UintRef::decode(inner)?, UintRef::decode(inner)?))
                })?;
                reader.finish()?;
                Ok(pair)
            })
            .map_err(|_| SHAPE)?;
        let n = BigUint::from_bytes_be(n.as_bytes());
        // The lower bound keeps the tests below meaningful; the upper is MAX_SPKI's.
        if !(512..=16_384).contains(&n.bits()) {
            return Err(NotAKey("the RSA modulus is far too small or too large"));
        }
        Ok(Self { n, e: e.as_bytes().to_vec() })
    }

    /// Its length.
    pub(super) fn bits(&self) -> u16 {
        // At most 16,384 by construction.
        u16::try_from(self.n.bits()).unwrap_or(u16::MAX)
    }

    pub(super) fn check_strength(&self) -> Result<(), WeakKey> {
        if !matches!(self.bits(), 2048 | 3072 | 4096) {
            return Err(WeakKey::RsaSize);
        }
        if self.e != [1, 0, 1] {
            return Err(WeakKey::RsaExponent);
        }
        let residues: Vec<(u32, u32)> = PRIMES
            .iter()
            .map(|&prime| (prime, (&self.n % prime).try_into().unwrap_or_default()))
            .collect();
        if residues.iter().any(|&(_, residue)| residue == 0) {
            return Err(WeakKey::RsaSmallFactor);
        }
        if has_roca_fingerprint(&residues) {
            return Err(WeakKey::RsaRoca);
        }
        if fermat_factors(&self.n) {
            return Err(WeakKey::RsaClosePrimes);
        }
        Ok(())
    }
}

/// Whether the modulus is a power of 65537 modulo every small prime (Nemec et al., "The Return of
/// Coppersmith's Attack", section 2.3). By chance that holds for one modulus in about 2^27.
fn has_roca_fingerprint(residues: &[(u32, u32)]) -> bool {
    // Up to 167, the largest prime that divides the generator's modulus at every key size.
    residues.iter().take_while(|&&(prime, _)| prime <= 167).all(|&(prime, residue)| {
        let mut power = 1;
        loop {
            if power == residue {
                return true;
            }
            power = power * 65_537 % prime;
            if power == 1 {
                return false;
            }
        }
    })
}

/// Whether n = (a − b)(a + b) for one of the first `FERMAT_ROUNDS` candidates a ≥ √n.
fn fermat_factors(n: &BigUint) -> bool {
    let mut a = n.sqrt();
    if &a * &a < *n {
        a += 1u32;
    }
    let mut b_squared = &a * &a - n;
    for _ in 0..FERMAT_ROUNDS {
        if is_square(&b_squared) {
            return true;
        }
        // (a + 1)² − n = (a² − n) + 2a + 1
        b_squared += &a << 1u32;
        b_squared += 1u32;
        a += 1u32;
    }
    false
}

/// Squares modulo 64, 63, 65 and 11 are few; the costly root is taken of one number in a hundred.
fn is_square(x: &BigUint) -> bool {
    const MODULUS: u32 = 64 * 63 * 65 * 11;
    let residue: u32 = (x % MODULUS).try_into().unwrap_or_default();
    let could_be =
        [64, 63, 65, 11].iter().all(|m| (0..*m).any(|root| root * root % m == residue % m));
    could_be && {
        let root = x.sqrt();
        &root * &root == *x
    }
}

/// Boulder tries 110.
const FERMAT_ROUNDS: u32 = 110;

/// The primes below 752, which is how far NIST SP 800-89 section 5.3.3 has moduli divided.
const PRIMES: [u32; 133] = {
    let mut primes = [0; 133];
    let (mut found, mut candidate) = (0, 2);
    while found < primes.len() {
        let mut index = 0;
        let mut composite = false;
        while index < found {
            if candidate % primes[index] == 0 {
                composite = true;
                break;
            }
            index += 1;
        }
        if !composite {
            primes[found] = candidate;
            found += 1;
        }
        candidate += 1;
    }
    primes
};

#[cfg(test)]
mod tests {
    use super::*;

    fn modulus(n: BigUint) -> Modulus {
        Modulus { n, e: vec![1, 0, 1] }
    }

    fn random(bits: u64, seed: u8) -> BigUint {
        let mut octets = Vec::new();
        while (octets.len() as u64) < bits / 8 {
            let block = [seed, (octets.len() / 32) as u8];
            octets.extend_from_slice(&super::super::sha256(&block));
        }
        octets.truncate((bits / 8) as usize);
        octets[0] |= 0xc0;
        BigUint::from_bytes_be(&octets)
    }

    fn divisible(n: &BigUint) -> bool {
        PRIMES.iter().any(|prime| n % prime == BigUint::ZERO)
    }

    /// Miller-Rabin with the base 2, after trial division: enough to make test factors.
    fn next_prime(from: &BigUint) -> BigUint {
        let mut candidate = from | BigUint::from(1u32);
        loop {
            let minus_one = &candidate - 1u32;
            if !divisible(&candidate)
                && BigUint::from(2u32).modpow(&minus_one, &candidate) == BigUint::from(1u32)
            {
                return candidate;
            }
            candidate += 2u32;
        }
    }

    #[test]
    fn the_primes_are_all_those_below_752() {
        let divisors = |n: &u32| (2..*n).filter(|d| n.is_multiple_of(*d)).count();
        let primes: Vec<u32> = (2..752).filter(|n| divisors(n) == 0).collect();
        assert_eq!(PRIMES.to_vec(), primes);
    }

    #[test]
    fn every_small_factor_is_found() {
        for prime in PRIMES {
            // The multiple of `prime` next above a random number of 2048 bits.
            let n = random(2048, 3);
            let n = &n - (&n % prime) + prime;
            assert_eq!(modulus(n).check_strength(), Err(WeakKey::RsaSmallFactor), "{prime}");
        }
    }

    #[test]
    fn close_primes_are_found_and_distant_ones_are_not() {
        let p = next_prime(&random(1024, 1));
        let near = next_prime(&(&p + 2u32));
        assert_eq!(modulus(&p * &near).check_strength(), Err(WeakKey::RsaClosePrimes));
        assert_eq!(modulus(&p * &p).check_strength(), Err(WeakKey::RsaClosePrimes));
        // Factors p and p + d take d² / 8√n rounds: here some 80.
        let q = next_prime(&(&p + (BigUint::from(3u32) << 515u32)));
        assert_eq!(modulus(&p * &q).check_strength(), Err(WeakKey::RsaClosePrimes));
        let far = next_prime(&random(1024, 2));
        assert_eq!(modulus(&p * &far).check_strength(), Ok(()));
    }

    #[test]
    fn a_modulus_with_the_roca_fingerprint_is_refused() {
        // As the flawed generator makes them: a power of 65537 modulo the primorial of 167.
        let primorial: BigUint =
            PRIMES.iter().take_while(|p| **p <= 167).map(|p| BigUint::from(*p)).product();
        let power = BigUint::from(65_537u32).modpow(&BigUint::from(0x1234_5678u32), &primorial);
        let mut n = random(2048, 5);
        n = &n - (&n % &primorial) + &power;
        while divisible(&n) {
            n += &primorial;
        }
        assert_eq!(n.bits(), 2048);
        assert_eq!(modulus(n.clone()).check_strength(), Err(WeakKey::RsaRoca));
        // Its neighbour is not of that form.
        n += 2u32;
        while divisible(&n) {
            n += 2u32;
        }
        assert_eq!(modulus(n).check_strength(), Ok(()));
    }

    #[test]
    fn size_and_exponent_are_fixed() {
        for bits in [1024, 2040, 2056, 4104] {
            assert_eq!(modulus(random(bits, 1)).check_strength(), Err(WeakKey::RsaSize));
        }
        for e in [&[3][..], &[1, 0, 3], &[1, 0, 0, 0, 1]] {
            let weak = Modulus { n: random(2048, 1), e: e.to_vec() };
            assert_eq!(weak.check_strength(), Err(WeakKey::RsaExponent));
        }
    }

    #[test]
    fn squares_are_told_from_their_neighbours() {
        for root in (0u64..300).chain([u64::MAX]) {
            let square = BigUint::from(root) * root;
            assert!(is_square(&square));
            assert_eq!(is_square(&(square + 1u32)), root == 0);
        }
    }
}
