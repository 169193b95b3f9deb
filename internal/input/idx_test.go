package input

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"os"
	"strings"
	"testing"

	"starling/internal/tensor"
)

func idx(shape []int, data []byte) []byte {
	b := []byte{0, 0, idxBytes, byte(len(shape))}
	for _, d := range shape {
		b = binary.BigEndian.AppendUint32(b, uint32(d))
	}
	return append(b, data...)
}

func compress(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestIDX(t *testing.T) {
	plain := idx([]int{2, 1, 2}, []byte{0, 51, 102, 255})
	for _, c := range []struct {
		name string
		data []byte
		opt  Options
		want []float32 // the second item
	}{
		{"x/255", plain, Options{}, []float32{102. / 255, 1}},
		{"compressed", compress(t, plain), Options{}, []float32{102. / 255, 1}},
		{"mean and std", plain, Options{Mean: []float32{2}, Std: []float32{100}}, []float32{1, 2.53}},
	} {
		for _, shape := range []tensor.Shape{{1, 1, 1, 2}, {1, 2}, {2}, {1, 2, 1}} {
			t.Run(c.name+" "+shape.String(), func(t *testing.T) {
				s, err := OpenIDX("two", c.data, value(tensor.Float32, shape...), c.opt)
				if err != nil {
					t.Fatal(err)
				}
				if s.Count() != 2 || s.Name(1) != "two:1" {
					t.Errorf("%d items, the second is %q", s.Count(), s.Name(1))
				}
				wantF32(t, mustTensor(t, s, 1), c.want...)
			})
		}
	}
	t.Run("bytes as they are", func(t *testing.T) {
		s, err := OpenIDX("two", plain, value(tensor.Uint8, 1, 2), Options{})
		if err != nil {
			t.Fatal(err)
		}
		if x := mustTensor(t, s, 1); !bytes.Equal(x.Data, []byte{102, 255}) {
			t.Errorf("% d", x.Data)
		}
	})
}

func TestIDXDamaged(t *testing.T) {
	whole := compress(t, idx([]int{2, 1, 2}, []byte{0, 51, 102, 255}))
	flipped := bytes.Clone(whole)
	flipped[len(flipped)-6] ^= 1 // in the checksum
	for _, c := range []struct {
		name string
		data []byte
		want string
	}{
		{"checksum", flipped, "damaged"},
		{"gzip cut short", whole[:len(whole)-9], "unexpected EOF; copy it again"},
		{"gzip header only", whole[:5], "cannot be decompressed"},
		{"huge", idx([]int{1 << 30, 1 << 30, 1 << 30}, nil), "impossible shape"},
		{"over the limit", idx([]int{1 << 20, 1 << 6, 1 << 6}, nil), "limit 1073741824"},
		{"dimension over the limit", idx([]int{1<<30 + 1}, nil), "limit 1073741824"},
		{"header cut short", idx([]int{2, 1}, nil)[:10], "cut short in its header"},
		{"no dimensions", idx(nil, nil), "0 IDX dimensions"},
		{"floats", []byte{0, 0, 0x0d, 1, 0, 0, 0, 0}, "type 0x0d"},
		// Nothing is unpacked for a model that it does not fit.
		{"items of another size, cut short", idx([]int{1 << 20, 16, 16}, nil), "has items of shape [16,16]"},
		{"empty items", idx([]int{2, 0, 2}, nil), "empty items"},
		{"no items", idx([]int{0, 1, 2}, nil), "holds no input"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := OpenIDX("x", c.data, value(tensor.Float32, 1, 2), Options{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	if _, err := ReadIDXLabels(bytes.NewReader(whole)); err == nil {
		t.Error("pictures were read as labels")
	}
}

func TestMNIST(t *testing.T) {
	path := modelFile(t, "data/mnist/t10k-images-idx3-ubyte.gz")
	v := value(tensor.Float32, 1, 1, 28, 28)
	s := mustOpen(t, path, v, Options{})
	raw := mustOpen(t, path, value(tensor.Uint8, 1, 784), Options{})
	if s.Count() != 10000 || raw.Count() != 10000 {
		t.Fatalf("%d and %d digits", s.Count(), raw.Count())
	}
	for _, i := range []int{0, 1234, 9999} {
		x, b := mustTensor(t, s, i).F32(), mustTensor(t, raw, i).Data
		for j := range x {
			if x[j] != float32(b[j])/255 {
				t.Fatalf("digit %d pixel %d: %v of %d", i, j, x[j], b[j])
			}
		}
	}
	part := mustOpen(t, path+":9990-9999", v, Options{})
	if part.Count() != 10 || part.Name(9) != path+":9999" {
		t.Fatalf("%d digits, the last is %s", part.Count(), part.Name(9))
	}
	if !bytes.Equal(mustTensor(t, part, 9).Data, mustTensor(t, s, 9999).Data) {
		t.Error("the range holds another digit")
	}

	f, err := os.Open(modelFile(t, "data/mnist/t10k-labels-idx1-ubyte.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	labels, err := ReadIDXLabels(f)
	if err != nil || len(labels) != 10000 || !bytes.Equal(labels[:5], []byte{7, 2, 1, 0, 4}) {
		t.Fatalf("%d labels, %v", len(labels), err)
	}
}

func FuzzIDX(f *testing.F) {
	plain := idx([]int{2, 1, 2}, []byte{0, 51, 102, 255})
	f.Add(plain)
	f.Add(compress(f, plain))
	f.Add(idx([]int{3}, []byte{1, 2, 3}))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := OpenIDX("x", b, value(tensor.Float32, 1, 2), Options{})
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("not one line: %v", err)
			}
			return
		}
		for i := range min(s.Count(), 100) {
			for _, x := range mustTensor(t, s, i).F32() {
				if !(0 <= x && x <= 1) {
					t.Fatalf("pixel %v", x)
				}
			}
		}
	})
}
