package serve

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"starling/internal/engine"
	"starling/internal/graph"
	"starling/internal/tensor"
)

// smallModel has two inputs, and no flock: it is only read for.
func smallModel() *model {
	return newModel(Model{
		Name: "small",
		Inputs: []graph.Value{
			{Name: "x", Info: graph.Info{Type: tensor.Float32, Shape: tensor.Shape{2, 1, 2}}},
			{Name: "n", Info: graph.Info{Type: tensor.Int8, Shape: tensor.Shape{1}}},
		},
		Outputs: []graph.Value{{Name: "y", Info: graph.Info{Type: tensor.Float32, Shape: tensor.Shape{1}}}},
	})
}

// FuzzRequest reads requests from anyone. One that is taken is JSON, and its
// numbers are those that encoding/json finds in it.
func FuzzRequest(f *testing.F) {
	n := `{"name":"n","datatype":"INT8","shape":[1],"data":[-7]}`
	for _, text := range []string{
		`{"inputs":[{"name":"x","datatype":"FP32","shape":[2,1,2],"data":[1,2.5,-3e2,0]},` + n + `]}`,
		`{"id":"\u00e4","parameters":{"timeout":5,"binary_data_output":true},"inputs":[` + n + `,{"data":[[[1,2]],[[3,4E-1]]],"shape":[2,1,2],"datatype":"FP32","name":"x"}],"outputs":[{"name":"y"}]}`,
		`{"inputs":[{"name":"x","datatype":"FP32","shape":[2,1,2],"parameters":{"binary_data_size":16}},` + n + `]}`,
		`{"inputs":[{"name":"x","datatype":"FP32","shape":[2,1,2],"data":[[1,2],[3,4]]}]}`,
		`{"a":[{"b":null},true,"\"",-0.0e-7]}`,
		`{"inputs":[[]`, "\x00", `{"`,
	} {
		f.Add([]byte(text), []byte("0123456789abcdef"))
		f.Add([]byte(text), []byte{})
	}
	m := smallModel()
	f.Fuzz(func(t *testing.T, text, behind []byte) {
		q := m.take()
		defer m.give(q)
		length := -1
		if len(behind) > 0 {
			length = len(text)
		}
		err := q.read(bytes.NewReader(append(bytes.Clone(text), behind...)), length)
		if err != nil {
			if status, _ := explain(err); status != 400 && status != 413 {
				t.Errorf("%v: status %d", err, status)
			}
			return
		}
		var a struct {
			ID     string
			Inputs []struct {
				Name string
				Data any
			}
		}
		if err := json.Unmarshal(text, &a); err != nil {
			// Keys are matched by case and a field may come again as another type there.
			if !json.Valid(text) {
				t.Fatalf("taken and no JSON: %v", err)
			}
			return
		}
		if strings.Contains(strings.ToLower(string(text)), `\u`) || bytes.Count(text, []byte(`"data"`)) > len(q.inputs) ||
			bytes.Count(text, []byte(`"inputs"`)) > 1 || bytes.Count(text, []byte(`"name"`)) > 3 || bytes.ContainsAny(text, "DNI") && len(a.Inputs) != len(q.inputs) {
			return // fields that come twice: the last of them counts here and there, by another rule
		}
		for _, in := range a.Inputs {
			i, ok := m.inputs[in.Name]
			if !ok || in.Data == nil {
				continue
			}
			var got []float64
			if m.Inputs[i].Type == tensor.Int8 {
				got = append(got, float64(tensor.Of[int8](q.inputs[i])[0]))
			} else {
				for _, v := range q.inputs[i].F32() {
					got = append(got, float64(v))
				}
			}
			if want := flatten(nil, in.Data); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("input %s is %v, want %v", in.Name, got, want)
			}
		}
	})
}

// flatten gives all numbers in v, as float32 has them.
func flatten(to []float64, v any) []float64 {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			to = flatten(to, e)
		}
	case float64:
		to = append(to, float64(float32(v)))
	}
	return to
}

// FuzzNumber compares the grammar with encoding/json's, and what quickFloat32 takes
// with strconv's.
func FuzzNumber(f *testing.F) {
	for _, s := range []string{
		"0", "-0", "01", "1.", ".5", "1e", "1e+07", "-", "0x1", "1_0", "Inf", "1E-400",
		"16777217", "16777217.0000001", "16777216.9999999999", "1.00000005960464477", "1.0000000596046448",
		"9999999999999999999", "0.000000000000000001", "0.12345679104328156", "123456789012345678901",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var n json.Number
		want := json.Unmarshal([]byte(s), &n) == nil && n.String() == s && s != ""
		if got := number([]byte(s)); got != want {
			t.Errorf("number(%q) is %v, want %v", s, got, want)
		}
		v, length := quickFloat32([]byte(s))
		if length == 0 {
			return
		}
		s = s[:length]
		if want, err := strconv.ParseFloat(s, 32); err != nil || !number([]byte(s)) || math.Float32bits(v) != math.Float32bits(float32(want)) {
			t.Errorf("quickFloat32(%q) is %v, want %v (%v)", s, v, want, err)
		}
	})
}

// TestQuickFloat32 takes numbers as clients write them, and values near to halfway
// between two float32s.
func TestQuickFloat32(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	quick := 0
	for range 100_000 {
		x := float32(r.NormFloat64())
		if r.IntN(4) == 0 {
			x = math.Float32frombits(r.Uint32()%(40<<23) + 110<<23)
		}
		next := float64(math.Nextafter32(x, 100*x))
		for _, v := range []float64{float64(x), float64(x) / 3, (float64(x) + next) / 2, math.Nextafter((float64(x)+next)/2, 0)} {
			for _, s := range []string{strconv.FormatFloat(v, 'f', -1, 64), strconv.FormatFloat(v, 'f', -1, 32), strconv.FormatFloat(v, 'f', 7, 64)} {
				got, n := quickFloat32([]byte(s))
				if n == 0 {
					continue
				}
				quick++
				want, err := strconv.ParseFloat(s, 32)
				if err != nil || n != len(s) || math.Float32bits(got) != math.Float32bits(float32(want)) {
					t.Fatalf("%s: %v, want %v (%v)", s, got, want, err)
				}
			}
		}
	}
	if quick < 600_000 {
		t.Errorf("only %d of 1,200,000 numbers were taken", quick)
	}
}

// TestInfinite refuses to write what JSON has no word for.
func TestInfinite(t *testing.T) {
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		for _, x := range []*tensor.Tensor{
			tensor.FromSlice([]float32{1, float32(v)}, 2), tensor.FromSlice([]float64{v, 1}, 2),
			{Type: tensor.Float16, Shape: tensor.Shape{1}, Data: tensor.Bytes([]uint16{tensor.ToFloat16(v)})},
		} {
			if b, err := appendElements(nil, x); !errors.Is(err, errInfinite) {
				t.Errorf("%v is %s, %v", x.Type, b, err)
			}
		}
	}
}

// TestReadAllocates: a request is read to where it is computed from.
func TestReadAllocates(t *testing.T) {
	m := newModel(Model{
		Name:   "picture",
		Inputs: []graph.Value{{Name: "x", Info: graph.Info{Type: tensor.Float32, Shape: tensor.Shape{1, 3, 64, 64}}}},
	})
	inputs := `{"inputs":[{"name":"x","datatype":"FP32","shape":[1,3,64,64],`
	text := inputs + `"data":[` + strings.Repeat("0.12345678,", 3*64*64-1) + `1]}]}`
	head := inputs + `"parameters":{"binary_data_size":49152}}]}`
	for _, test := range []struct {
		name, body string
		text       int
	}{
		{"JSON", text, -1},
		{"binary", head + strings.Repeat("\x00", 49152), len(head)},
	} {
		r := strings.NewReader("")
		n := testing.AllocsPerRun(10, func() {
			q := m.take()
			r.Reset(test.body)
			if err := q.read(r, test.text); err != nil {
				t.Fatal(err)
			}
			m.give(q)
		})
		if n > 16 { // names and what parses them, whatever the size
			t.Errorf("%s: %v allocations", test.name, n)
		}
	}
}

// TestAnnounced has clients say how much they will send, and send hardly any of it:
// that takes hardly any memory.
func TestAnnounced(t *testing.T) {
	m := newModel(Model{
		Name:   "large",
		Inputs: []graph.Value{{Name: "x", Info: graph.Info{Type: tensor.Float32, Shape: tensor.Shape{1 << 24}}}},
	})
	for name, read := range map[string]func(few io.Reader) error{
		"REST": func(few io.Reader) error { return m.take().read(few, m.text) },
		"gRPC": func(few io.Reader) error {
			head := binary.BigEndian.AppendUint32([]byte{0}, uint32(m.message))
			c := &call{r: &http.Request{Body: io.NopCloser(io.MultiReader(bytes.NewReader(head), few))}}
			return c.receive(m.message, func([]byte) error { return nil })
		},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := read(strings.NewReader("{"))
		runtime.ReadMemStats(&after)
		if status, _ := explain(err); status != 400 {
			t.Errorf("%s: %v", name, err)
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > 1<<20 {
			t.Errorf("%s: took %d bytes for one", name, took)
		}
	}
}

// TestClaim names what does not fit.
func TestClaim(t *testing.T) {
	q := smallModel().take()
	var want *engine.InputError
	if _, err := q.claim("x", "FP32", tensor.Shape{4}); !errors.As(err, &want) || want.Want != "FP32 [2,1,2]" || want.Got != "FP32 [4]" {
		t.Error(err)
	}
}

func BenchmarkRead(b *testing.B) {
	m := newModel(Model{
		Name:   "picture",
		Inputs: []graph.Value{{Name: "x", Info: graph.Info{Type: tensor.Float32, Shape: tensor.Shape{1, 3, 224, 224}}}},
	})
	const size = 3 * 224 * 224
	inputs := `{"inputs":[{"name":"x","datatype":"FP32","shape":[1,3,224,224],`
	values := make([]float64, size) // as Python writes a float32
	for r, i := rand.New(rand.NewPCG(1, 2)), 0; i < size; i++ {
		values[i] = float64(r.Float32())
	}
	data, err := json.Marshal(values)
	if err != nil {
		b.Fatal(err)
	}
	text := inputs + `"data":` + string(data) + `}]}`
	head := inputs + fmt.Sprintf(`"parameters":{"binary_data_size":%d}}]}`, 4*size)
	binary := head + strings.Repeat("\x00", 4*size)
	read := func(b *testing.B, body string, length int) {
		b.ReportAllocs()
		b.SetBytes(4 * size)
		r := strings.NewReader("")
		for b.Loop() {
			q := m.take()
			r.Reset(body)
			if err := q.read(r, length); err != nil {
				b.Fatal(err)
			}
			m.give(q)
		}
	}
	b.Run("JSON", func(b *testing.B) { read(b, text, -1) })
	b.Run("binary", func(b *testing.B) { read(b, binary, len(head)) })
	b.Run("encoding-json", func(b *testing.B) { // the yardstick
		b.ReportAllocs()
		b.SetBytes(4 * size)
		for b.Loop() {
			var v struct{ Inputs []struct{ Data []float32 } }
			if err := json.Unmarshal([]byte(text), &v); err != nil {
				b.Fatal(err)
			}
		}
	})
}
