package input

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"starling/internal/graph"
	"starling/internal/tensor"
)

func header(major byte, dict string) []byte {
	b := append([]byte(npyMagic), major, 0, byte(len(dict)), byte(len(dict)>>8))
	if major > 1 {
		b = append(b, 0, 0)
	}
	return append(b, dict...)
}

func TestNPYHeader(t *testing.T) {
	long := "(" + strings.Repeat("1, ", maxDims+1) + ")"
	for _, c := range []struct {
		name string
		file []byte
		want string // type and shape, or a part of the error
	}{
		{"1.0", header(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n"), "float32 [2,3]"},
		{"2.0", header(2, "{'descr': '<i8', 'fortran_order': False, 'shape': (2,), }\n"), "int64 [2]"},
		{"3.0", header(3, "{'descr': '|u1', 'fortran_order': False, 'shape': (), }\n"), "uint8 []"},
		{"other order, other quotes, no spaces", header(1, `{"shape":(1,2),"fortran_order":True,"descr":"<f8"}`), "float64 [1,2]"},
		{"version 4", header(4, "{}"), "version 4.0"},
		{"empty", nil, "is no .npy file"},
		{"cut short in the length", header(1, "")[:9], "cut short in its header"},
		{"cut short in the dict", header(1, "{'descr': '<f4'")[:15], "cut short in its header"},
		{"header too long", append([]byte(npyMagic), 2, 0, 1, 0, 1, 0), "header of 65537 bytes"},
		{"no dict", header(1, "(2, 3)"), `no "{"`},
		{"key missing", header(1, "{'descr': '<f4', 'shape': (2, 3)}"), "is missing"},
		{"key twice", header(1, "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': ()}"), "stands twice"},
		{"unknown key", header(1, "{'descr': '<f4', 'order': 'C', 'shape': ()}"), `unknown key "order"`},
		{"no comma", header(1, "{'descr': '<f4' 'fortran_order': False, 'shape': ()}"), `no "}"`},
		{"text behind", header(1, "{'descr': '<f4', 'fortran_order': False, 'shape': ()} 1"), "text behind"},
		{"open string", header(1, "{'descr': '<f4"), "does not end"},
		{"no bool", header(1, "{'descr': '<f4', 'fortran_order': 0, 'shape': ()}"), `no "False"`},
		{"negative", header(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}"), "dimension is no number"},
		{"huge dimension", header(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}"), "dimension is no number"},
		{"too many dimensions", header(1, "{'descr': '<f4', 'fortran_order': False, 'shape': "+long+"}"), "more than 64"},
		{"records", header(1, "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': ()}"), "holds records"},
		{"objects", header(1, "{'descr': '|O', 'fortran_order': False, 'shape': ()}"), `type "|O"`},
		{"over the limit", header(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (300,)}"), "limit 1000"},
		{"over any limit", header(1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2000000000, 2000000000, 2000000000)}"), "overflows"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ""
			x, err := ReadNPY(bytes.NewReader(append(c.file, make([]byte, 100)...)), 1000)
			if strings.HasPrefix(c.name, "cut short") {
				x, err = ReadNPY(bytes.NewReader(c.file), 1000)
			}
			if err != nil {
				got = err.Error()
			} else {
				got = fmt.Sprintf("%v %v", x.Type, x.Shape)
			}
			if !strings.Contains(got, c.want) || (err == nil && got != c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestReadNPYFortran(t *testing.T) {
	// [2,3,2] whose element (i,j,k) is 100i+10j+k, the first index fastest.
	var stored, want []float32
	for k := range 2 {
		for j := range 3 {
			for i := range 2 {
				stored = append(stored, float32(100*i+10*j+k))
			}
		}
	}
	for i := range 2 {
		for j := range 3 {
			for k := range 2 {
				want = append(want, float32(100*i+10*j+k))
			}
		}
	}
	file := npy("<f4", "True", "(2, 3, 2)", tensor.Bytes(stored))
	x, err := ReadNPY(bytes.NewReader(file), 1000)
	if err != nil {
		t.Fatal(err)
	}
	wantF32(t, x, want...)
	s := mustOpen(t, writeFile(t, "f.npy", file), value(tensor.Float32, 1, 3, 2), Options{})
	wantF32(t, mustTensor(t, s, 1), want[6:]...)
}

func TestElementTypes(t *testing.T) {
	for descr, dtype := range npyTypes {
		t.Run(descr, func(t *testing.T) {
			raw := bytes.Repeat([]byte{1}, 3*dtype.Size())
			s := mustOpen(t, writeFile(t, "x.npy", npy(descr, "False", "(3,)", raw)), value(dtype, 1), Options{})
			if x := mustTensor(t, s, 2); s.Count() != 3 || !bytes.Equal(x.Data, raw[:dtype.Size()]) {
				t.Errorf("%d inputs, the last % x", s.Count(), x.Data)
			}
		})
	}
	t.Run("float64 to float32", func(t *testing.T) {
		file := npy("<f8", "False", "(2, 2)", tensor.Bytes([]float64{1, 1e300, 0.1, -0.5}))
		s := mustOpen(t, writeFile(t, "x.npy", file), value(tensor.Float32, 1, 2), Options{})
		wantF32(t, mustTensor(t, s, 1), 0.1, -0.5)
	})
	t.Run("bools are 0 or 1", func(t *testing.T) {
		file := npy("|b1", "False", "(3,)", []byte{0, 1, 7})
		x, err := ReadNPY(bytes.NewReader(file), 10)
		if err != nil || !bytes.Equal(x.Data, []byte{0, 1, 1}) {
			t.Errorf("%v, %v", x, err)
		}
		s := mustOpen(t, writeFile(t, "x.npy", file), value(tensor.Bool, 3), Options{})
		if x := mustTensor(t, s, 0); !bytes.Equal(x.Data, []byte{0, 1, 1}) {
			t.Errorf("% x", x.Data)
		}
	})
}

func TestNPYWriter(t *testing.T) {
	for _, c := range []struct {
		name        string
		item, stack tensor.Shape
	}{
		{"leading 1 becomes N", tensor.Shape{1, 2}, tensor.Shape{3, 2}},
		{"no leading 1", tensor.Shape{2, 1}, tensor.Shape{3, 2, 1}},
		{"one number", tensor.Shape{1}, tensor.Shape{3}},
		{"scalar", tensor.Shape{}, tensor.Shape{3}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "out.npy")
			info := graph.Info{Type: tensor.Float32, Shape: c.item}
			w, err := CreateNPY(path, 3, info)
			if err != nil {
				t.Fatal(err)
			}
			size := c.item.Elements()
			all := counting(3 * size)
			for _, i := range []int{2, 0, 1} {
				if err := w.Write(i, tensor.FromSlice(all[i*size:(i+1)*size], c.item...)); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Commit(); err != nil {
				t.Fatal(err)
			}
			w.Abort()
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			x, err := ReadNPY(bytes.NewReader(raw), 1000)
			if err != nil || !x.Shape.Equal(c.stack) {
				t.Fatalf("%v, %v; want shape %v", x, err, c.stack)
			}
			wantF32(t, x, all...)
			if (len(raw)-len(x.Data))%64 != 0 {
				t.Error("the elements are not aligned")
			}
			s := mustOpen(t, path, graph.Value{Info: info}, Options{})
			if s.Count() != 3 {
				t.Errorf("read back as %d inputs", s.Count())
			}
			if files, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*")); len(files) != 1 {
				t.Errorf("left behind: %v", files)
			}
		})
	}
}

// A failure leaves the folder as it was.
func TestNPYWriterFails(t *testing.T) {
	info := graph.Info{Type: tensor.Float32, Shape: tensor.Shape{1, 2}}
	answer := tensor.New(tensor.Float32, 1, 2)
	for _, c := range []struct {
		name string
		fail func(w *NPYWriter) error
		want string
	}{
		{"answer missing", func(w *NPYWriter) error { return errJoin(w.Write(1, answer), w.Commit()) }, "1 of 2 answers are missing"},
		{"other shape", func(w *NPYWriter) error { defer w.Abort(); return w.Write(0, tensor.New(tensor.Float32, 2)) }, "float32 [2], not float32 [1,2]"},
		{"other type", func(w *NPYWriter) error { defer w.Abort(); return w.Write(0, tensor.New(tensor.Int32, 1, 2)) }, "int32 [1,2], not"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "out.npy")
			if err := os.WriteFile(path, []byte("older"), 0o600); err != nil {
				t.Fatal(err)
			}
			w, err := CreateNPY(path, 2, info)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.fail(w); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			files, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*"))
			if raw, _ := os.ReadFile(path); len(files) != 1 || string(raw) != "older" {
				t.Errorf("left behind: %v, %q", files, raw)
			}
		})
	}
	t.Run("no folder", func(t *testing.T) {
		_, err := CreateNPY(filepath.Join(t.TempDir(), "no", "out.npy"), 1, info)
		if err == nil || !strings.Contains(err.Error(), "choose a directory") {
			t.Error(err)
		}
	})
	t.Run("a folder", func(t *testing.T) {
		if _, err := CreateNPY(t.TempDir(), 1, info); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Error(err)
		}
	})
	t.Run("type without npy", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "out.npy")
		if _, err := CreateNPY(path, 1, graph.Info{Type: tensor.BFloat16}); err == nil || !strings.Contains(err.Error(), "bfloat16") {
			t.Error(err)
		}
	})
}

func errJoin(first, second error) error {
	if first != nil {
		return first
	}
	return second
}

func FuzzNPY(f *testing.F) {
	f.Add(npy("<f4", "False", "(2, 3)", make([]byte, 24)))
	f.Add(npy("<f8", "True", "(2, 3)", make([]byte, 48)))
	f.Add(npy("|b1", "True", "(3, 0, 2)", nil))
	f.Add(header(3, "{\"shape\":(),'fortran_order':True,'descr':'|u1'}"))
	const limit = 1 << 16
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := ReadNPY(bytes.NewReader(b), limit)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("not one line: %v", err)
			}
			return
		}
		if len(x.Data) > limit || len(x.Data) != x.Shape.Elements()*x.Type.Size() {
			t.Fatalf("%v %v in %d bytes", x.Type, x.Shape, len(x.Data))
		}
	})
}
