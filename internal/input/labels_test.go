package input

import (
	"bytes"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"

	"starling/internal/tensor"
)

func TestReadLabels(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"lines", "cat\ndog\n", []string{"cat", "dog"}},
		{"no newline at the end", "cat\ndog", []string{"cat", "dog"}},
		{"empty lines count", "\ncat\n\ndog\n", []string{"", "cat", "", "dog"}},
		{"from Windows", "cat\r\ndog\r\n", []string{"cat", "dog"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := ReadLabels(writeFile(t, "labels.txt", []byte(c.text)))
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	t.Run("ImageNet", func(t *testing.T) {
		got, err := ReadLabels(modelFile(t, "data/photos/imagenet_labels_1001.txt"))
		if err != nil || len(got) != 1001 || got[0] != "background" || got[2] != "goldfish, Carassius auratus" {
			t.Errorf("%d labels, %v", len(got), err)
		}
	})
	t.Run("too large", func(t *testing.T) {
		if _, err := ReadLabels(writeFile(t, "x", bytes.Repeat([]byte("x"), maxLabelBytes+1))); err == nil {
			t.Error("no error")
		}
	})
}

func TestTop(t *testing.T) {
	nan := float32(math.NaN())
	inf := float32(math.Inf(1))
	for _, c := range []struct {
		name   string
		scores []float32
		n      int
		want   []int
	}{
		{"highest first", []float32{1, 3, 2}, 3, []int{1, 2, 0}},
		{"some", []float32{1, 3, 2}, 2, []int{1, 2}},
		{"more than there are", []float32{1, 3}, 5, []int{1, 0}},
		{"none", []float32{1, 3}, 0, nil},
		{"ties by class", []float32{2, 5, 2, 5, 2}, 5, []int{1, 3, 0, 2, 4}},
		{"NaN last", []float32{nan, -inf, nan, inf}, 4, []int{3, 1, 0, 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []int
			for _, x := range Top(c.scores, []string{"zero", "one"}, c.n) {
				got = append(got, x.Class)
				if want := []string{"zero", "one", "", "", ""}[x.Class]; x.Label != want {
					t.Errorf("class %d is %q", x.Class, x.Label)
				}
				if s := c.scores[x.Class]; s != x.Score && s == s {
					t.Errorf("class %d has score %v", x.Class, x.Score)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestRandom(t *testing.T) {
	v := value(tensor.Float32, 4, 500)
	x := Random(v, 7, 0)
	if !bytes.Equal(x.Data, Random(v, 7, 0).Data) {
		t.Error("the same arguments give other numbers")
	}
	other := v
	other.Name = "more"
	for name, y := range map[string]*tensor.Tensor{
		"seed": Random(v, 8, 0), "input": Random(v, 7, 1), "name": Random(other, 7, 0),
	} {
		if bytes.Equal(x.Data, y.Data) {
			t.Errorf("another %s gives the same numbers", name)
		}
	}
	low, high, sum := float32(1), float32(-1), 0.0
	for _, f := range x.F32() {
		low, high, sum = min(low, f), max(high, f), sum+float64(f)
	}
	// 2000 draws: none in the last hundredth has chance 0.995^2000 < 5e-5,
	// and the mean's standard deviation is 1/√6000 = 0.013. The seed is fixed.
	if low < -1 || low > -0.99 || high >= 1 || high < 0.99 || math.Abs(sum/2000) > 0.065 {
		t.Errorf("from %v to %v, mean %v", low, high, sum/2000)
	}
	for _, c := range []struct {
		dtype tensor.DType
		size  int
	}{
		{tensor.Int64, 8}, {tensor.Int8, 1}, {tensor.Uint16, 2}, {tensor.Bool, 1},
	} {
		d := Random(value(c.dtype, 100), 7, 0).Data
		for i, b := range d {
			if (i%c.size == 0 && b > 7) || (i%c.size > 0 && b != 0) || (c.dtype == tensor.Bool && b > 1) {
				t.Fatalf("%v: % x", c.dtype, d)
			}
		}
	}
}

// The numbers are promised: these were worked out from the definition in the
// comment of Random with another language.
func TestRandomPinned(t *testing.T) {
	wantF32(t, Random(value(tensor.Float32, 3), 1, 0), pinnedF32[:]...)
	for i, x := range tensor.View[uint16](Random(value(tensor.Float16, 3), 1, 0).Data) {
		if x != pinnedF16[i] {
			t.Errorf("float16 %d is %#04x, want %#04x", i, x, pinnedF16[i])
		}
	}
}

var (
	pinnedF32 = [3]float32{-0.17672431468963623, -0.8079726696014404, 0.2609522342681885}
	pinnedF16 = [3]uint16{0xb1a8, 0xba78, 0x342c}
)

func TestScoresWithoutANumber(t *testing.T) {
	for score, want := range map[float32]string{
		0.5: `{"class":3,"label":"a","score":0.5}`, float32(math.Inf(-1)): `{"class":3,"label":"a","score":null}`,
	} {
		if b, err := json.Marshal(Class{3, "a", score}); err != nil || string(b) != want {
			t.Errorf("%v is %s, %v", score, b, err)
		}
	}
	if b, err := json.Marshal(Class{Score: float32(math.NaN())}); err != nil || !strings.Contains(string(b), "null") {
		t.Errorf("NaN is %s, %v", b, err)
	}
}

func FuzzLabels(f *testing.F) {
	f.Add("zero\none\r\n\ntwo")
	f.Add("\n")
	f.Fuzz(func(t *testing.T, text string) {
		labels := parseLabels(text)
		if len(labels) > strings.Count(text, "\n")+1 {
			t.Fatalf("%d labels of %q", len(labels), text)
		}
		for _, l := range labels {
			if strings.Contains(l, "\n") || !strings.Contains(text, l) {
				t.Fatalf("label %q of %q", l, text)
			}
		}
	})
}
