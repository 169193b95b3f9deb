package kernel

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

var seed = flag.Uint64("seed", 0, "seed of the randomised tests; 0 takes one from the clock")

var levelFlag = flag.String("level", Level(), "level of the benchmarks; tests run at every one")

func TestMain(m *testing.M) {
	flag.Parse()
	if err := SetLevel(*levelFlag); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	goleak.VerifyTestMain(m)
}

// newRand returns the generator of a test and prints the seed if the test fails.
func newRand(t testing.TB) *rand.Rand {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("repeat with -seed=%d", *seed)
		}
	})
	return rand.New(rand.NewPCG(*seed, 1))
}

// levels lists what this CPU and build can run, portable first.
func levels() []string {
	names := []string{levelPortable}
	for _, name := range []string{levelAVX2, levelAVX512, levelNEON, levelVFPv4} {
		if hasLevel(name) {
			names = append(names, name)
		}
	}
	return names
}

func hasLevel(name string) bool {
	before := Level()
	defer func() { _ = SetLevel(before) }()
	return SetLevel(name) == nil
}

// atLevel runs f at a level and returns to the level before.
func atLevel(t testing.TB, name string, f func()) {
	t.Helper()
	before := Level()
	if err := SetLevel(name); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := SetLevel(before); err != nil {
			t.Fatal(err)
		}
	}()
	f()
}

// uniform fills a new slice with values in [-1, 1).
func uniform(r *rand.Rand, n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = r.Float32()*2 - 1
	}
	return v
}

// wild is uniform with some zeros of both signs, subnormals, huge values and
// infinities, and NaN if it may be. They are rare enough for most sums to stay
// finite.
func wild(r *rand.Rand, n int) []float32 {
	special := []float32{
		0, float32(math.Copysign(0, -1)), math.SmallestNonzeroFloat32, -math.SmallestNonzeroFloat32, 1e-30, -1e-30,
		1e30, -1e30, float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN()),
	}
	v := uniform(r, n)
	for i := range v {
		switch p := r.IntN(200); {
		case p < 12:
			v[i] = special[p%6]
		case p == 12 && r.IntN(8) == 0:
			v[i] = special[6+r.IntN(5)]
		}
	}
	return v
}

// sameBits says whether two values have the same bits, all NaN being one.
func sameBits(a, b float32) bool {
	return math.Float32bits(a) == math.Float32bits(b) || a != a && b != b
}

func compareBits(t testing.TB, what string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d elements, want %d", what, len(got), len(want))
	}
	for i := range got {
		if !sameBits(got[i], want[i]) {
			t.Fatalf("%s: element %d is %v (%#08x), want %v (%#08x)", what, i,
				got[i], math.Float32bits(got[i]), want[i], math.Float32bits(want[i]))
		}
	}
}

func TestSetLevel(t *testing.T) {
	before := Level()
	for _, name := range []string{"", "avx9", "Portable"} {
		if SetLevel(name) == nil {
			t.Errorf("level %q was accepted", name)
		}
	}
	if Level() != before {
		t.Errorf("level is %q after errors, was %q", Level(), before)
	}
	for _, name := range levels() {
		atLevel(t, name, func() {
			if Level() != name {
				t.Errorf("level is %q, want %q", Level(), name)
			}
		})
	}
}

// pools returns pools of one, two and three threads, closed with the test.
func pools(t testing.TB) []*Pool {
	list := []*Pool{nil, NewPool(2), NewPool(3)}
	t.Cleanup(func() {
		for _, p := range list {
			p.Close()
		}
	})
	return list
}

func size(r *rand.Rand, most int) int { return 1 + r.IntN(most) }

func label(format string, v ...any) string { return fmt.Sprintf(format, v...) }
