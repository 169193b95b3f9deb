package engine

import "math"

// Functions of float64 that have the same bits on every CPU, which math.Exp, Log
// and others do not promise: some are assembly on one architecture, and the
// compiler fuses products and sums on another. Here every product that is added
// to something is converted, which forbids that (Go specification, "Floating
// point operators"). Square roots, rounding and remainders are exact anyway. Each
// is within 4 units in the last place of float64 where nothing else is said, so
// that rounded to float32 it is within 0.5000001 units of the true value.

const (
	ln2High = 6.93147180369123816490e-01 // ln 2 in two parts, the first of 33 bits (Cody and Waite)
	ln2Low  = 1.90821492927058770002e-10
)

// inverseFactorials are 1/k!.
var inverseFactorials = func() [20]float64 {
	var list [20]float64
	f := 1.0
	for k := range list {
		if k > 0 {
			f *= float64(k) // exact up to 18!
		}
		list[k] = 1 / f
	}
	return list
}()

// horner is Σ c[k]·x^k.
func horner(c []float64, x float64) float64 {
	sum := 0.0
	for k := len(c) - 1; k >= 0; k-- {
		sum = float64(sum*x) + c[k]
	}
	return sum
}

// exp is e^x = e^r·2ⁿ, |r| ≤ ln 2 / 2, by the Taylor series to r¹³ (remainder
// below 5e-18).
func exp(x float64) float64 {
	switch {
	case x != x || x > 710:
		return x * math.Inf(1) // NaN, or +Inf
	case x < -746:
		return 0
	}
	n := math.Floor(float64(x*(1/math.Ln2)) + 0.5)
	r := (x - float64(n*ln2High)) - float64(n*ln2Low)
	y := horner(inverseFactorials[:14], r)
	if n > -1000 && n < 1000 {
		return y * math.Float64frombits(uint64(int64(n)+1023)<<52)
	}
	return math.Ldexp(y, int(n))
}

// expm1 is e^x − 1.
func expm1(x float64) float64 {
	if x > -0.5 && x < 0.5 {
		return x * horner(inverseFactorials[1:16], x)
	}
	return exp(x) - 1
}

// log is the natural logarithm: with x = m·2ⁿ, m in [√½, √2), it is n·ln 2 +
// 2·artanh s, s = (m−1)/(m+1), |s| < 0.172, by the series to s²¹ (remainder below
// 1e-18).
func log(x float64) float64 {
	switch {
	case x == 0:
		return math.Inf(-1)
	case x < 0 || x != x:
		return math.NaN()
	case math.IsInf(x, 1):
		return x
	}
	m, n := math.Frexp(x)
	if m < math.Sqrt2/2 {
		m, n = m*2, n-1
	}
	s := (m - 1) / (m + 1)
	square := float64(s * s)
	sum := 0.0
	for k := 21; k >= 3; k -= 2 {
		sum = float64((sum + 1/float64(k)) * square)
	}
	return float64(float64(n)*ln2High) + (float64(2*s) + (float64(2*s*sum) + float64(float64(n)*ln2Low)))
}

// log1p is ln(1 + x) (Goldberg, "What every computer scientist should know about
// floating-point arithmetic", 1991, theorem 4).
func log1p(x float64) float64 {
	u := 1 + x
	if u == 1 || math.IsInf(x, 1) {
		return x
	}
	return float64(log(u)*x) / (u - 1)
}

func tanh(x float64) float64 {
	a := math.Abs(x)
	if a > 22 { // 1 − tanh is below 2⁻⁶²
		return math.Copysign(1, x)
	}
	t := expm1(2 * a)
	return math.Copysign(t/(t+2), x)
}

func sigmoid(x float64) float64 { return 1 / (1 + exp(-x)) }

// softplus is ln(1 + e^x).
func softplus(x float64) float64 { return max(x, 0) + log1p(exp(-math.Abs(x))) }

// erfTable holds the Taylor series of erf around 0, 1/8, 2/8, … 6.
var erfTable = taylorErf()

const (
	erfSteps  = 8
	erfLimit  = 6 // 1 − erf 6 is below 2⁻⁵⁵
	erfDegree = 12
)

// taylorErf: erf c by the series 2/√π·e^{−c²}·Σ 2ᵏc^{2k+1}/(1·3·…·(2k+1)), all of
// one sign (DLMF 7.6.2); the coefficients that follow from y” = −2x·y'.
func taylorErf() [erfLimit*erfSteps + 1][erfDegree + 1]float64 {
	var table [erfLimit*erfSteps + 1][erfDegree + 1]float64
	for i := range table {
		c := float64(i) / erfSteps
		sum, term := 0.0, c
		for k := 1; k < 200; k++ {
			sum += term
			term *= 2 * c * c / float64(2*k+1)
		}
		a := &table[i]
		slope := 2 / math.Sqrt(math.Pi) * exp(-float64(c*c))
		a[0], a[1] = slope*sum, slope
		for k := 0; k+2 <= erfDegree; k++ {
			a[k+2] = -2 * (float64(c*float64(k+1)*a[k+1]) + float64(float64(k)*a[k])) / float64((k+2)*(k+1))
		}
	}
	return table
}

// erf: the distance to the centre of a series is 1/16 at most, where terms past
// the twelfth are below 1e-17.
func erf(x float64) float64 {
	a := math.Abs(x)
	if !(a < erfLimit) {
		return math.Copysign(1, x) + (x - x) // NaN stays NaN
	}
	i := int(a*erfSteps + 0.5)
	return math.Copysign(horner(erfTable[i][:], a-float64(i)/erfSteps), x)
}

// turn is sin or cos of x, cos being a quarter later. Up to 2³⁰ the error is
// below 2⁻⁵² of 1; beyond, where a float32 is coarser than a turn, x is first
// reduced by 2π rounded.
func turn(x float64, quarter int64) float64 {
	if x != x || math.IsInf(x, 0) {
		return math.NaN()
	}
	const far = 1 << 30
	if math.Abs(x) > far {
		x = math.Mod(x, 2*math.Pi)
	}
	// π/2 in two parts; a fused multiply-add rounds the same everywhere.
	const low = 6.123233995736766035868820147292e-17
	n := math.RoundToEven(x * (2 / math.Pi))
	r := math.FMA(-n, low, math.FMA(-n, math.Pi/2, x))
	square := r * r
	var sum float64
	q := int64(n) + quarter
	k := 18 // the Taylor series to r¹⁹ or r¹⁸: remainders below 1e-20
	if q&1 == 0 {
		k = 19
	}
	for ; k >= 0; k -= 2 {
		sum = inverseFactorials[k] - float64(sum*square)
	}
	if q&1 == 0 {
		sum *= r
	}
	if q&2 != 0 {
		return -sum
	}
	return sum
}

func sin(x float64) float64 {
	if x == 0 {
		return x
	}
	return turn(x, 0)
}

func cos(x float64) float64 { return turn(x, 1) }

func tan(x float64) float64 { return sin(x) / cos(x) }

// atan: atan x = 2·atan(x/(1+√(1+x²))), twice, then the series to the 25th power of
// at most 0.2 (remainder below 1e-19).
func atan(x float64) float64 {
	a := math.Abs(x)
	if a > 1 {
		return math.Copysign(math.Pi/2-atan(1/a), x)
	}
	for range 2 {
		a /= 1 + math.Sqrt(1+float64(a*a))
	}
	square := float64(a * a)
	sum := 0.0
	for k := 25; k >= 1; k -= 2 {
		sum = 1/float64(k) - float64(sum*square)
	}
	return math.Copysign(4*float64(a*sum), x)
}

func asin(x float64) float64 { return atan(x / math.Sqrt(float64((1-x)*(1+x)))) }

func acos(x float64) float64 { return 2 * atan(math.Sqrt((1-x)/(1+x))) }

func sinh(x float64) float64 {
	t := expm1(math.Abs(x))
	if math.IsInf(t, 1) {
		return x
	}
	return math.Copysign((t+t/(t+1))/2, x)
}

func cosh(x float64) float64 {
	e := exp(math.Abs(x))
	return (e + 1/e) / 2
}

func asinh(x float64) float64 {
	a := math.Abs(x)
	square := float64(a * a)
	return math.Copysign(log1p(a+square/(1+math.Sqrt(1+square))), x)
}

func acosh(x float64) float64 {
	t := x - 1
	return log1p(t + math.Sqrt(float64(2*t)+float64(t*t)))
}

func atanh(x float64) float64 {
	a := math.Abs(x)
	return math.Copysign(log1p(2*a/(1-a))/2, x)
}

// pow is b^e: whole exponents up to 64 by multiplication, ½ by a square root, the
// others by e^(e·ln b), within 1e-15·(1+|e·ln b|).
func pow(b, e float64) float64 {
	whole := e == math.Trunc(e)
	switch {
	case e == 0.5 && b >= 0:
		return math.Sqrt(b)
	case b == 0 || math.IsInf(b, 0) || math.IsInf(e, 0) || b != b || e != e || b == 1:
		return math.Pow(b, e) // exact cases: 0, 1, Inf, NaN
	case whole && math.Abs(e) <= 64:
		y, square := 1.0, b
		for k := int(math.Abs(e)); k > 0; k >>= 1 {
			if k&1 != 0 {
				y *= square
			}
			square *= square
		}
		if e < 0 {
			return 1 / y
		}
		return y
	case b < 0 && !whole:
		return math.NaN()
	}
	y := exp(float64(e * log(math.Abs(b))))
	if b < 0 && math.Mod(e, 2) != 0 {
		return -y
	}
	return y
}
