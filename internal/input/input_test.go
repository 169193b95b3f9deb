package input

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"starling/internal/graph"
	"starling/internal/tensor"
)

func value(t tensor.DType, shape ...int) graph.Value {
	return graph.Value{Name: "data", Info: graph.Info{Type: t, Shape: shape}}
}

// modelFile is the path of a file of real models and data, which are too
// large for this repository.
func modelFile(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv("STARLING_MODELS")
	if dir == "" {
		dir = filepath.FromSlash("../../../shared/models")
	}
	path := filepath.Join(dir, filepath.FromSlash(name))
	if _, err := os.Stat(path); err != nil {
		t.Skipf("lacks %s: set STARLING_MODELS", path)
	}
	return path
}

func writeFile(t testing.TB, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// npy makes a file of version 1.0 whose element bytes are data.
func npy(descr, fortran, shape string, data []byte) []byte {
	dict := fmt.Sprintf("{'descr': '%s', 'fortran_order': %s, 'shape': %s, }\n", descr, fortran, shape)
	b := append([]byte(npyMagic), 1, 0)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(dict)))
	return append(append(b, dict...), data...)
}

// counting returns 0, 1, 2, …
func counting(n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(i)
	}
	return x
}

func mustOpen(t testing.TB, arg string, want graph.Value, opt Options) *Source {
	t.Helper()
	s, err := Open(arg, want, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func mustTensor(t testing.TB, s *Source, i int) *tensor.Tensor {
	t.Helper()
	x, err := s.Tensor(i)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func wantF32(t testing.TB, got *tensor.Tensor, want ...float32) {
	t.Helper()
	for i, x := range got.F32() {
		if i >= len(want) || x != want[i] {
			t.Fatalf("got %v, want %v", got.F32(), want)
		}
	}
}

func TestBatchOfArray(t *testing.T) {
	for _, c := range []struct {
		name       string
		file, want tensor.Shape
		count      int // 0: does not fit
	}{
		{"the shape itself", tensor.Shape{1, 2, 3}, tensor.Shape{1, 2, 3}, 1},
		{"one axis more", tensor.Shape{4, 1, 2, 3}, tensor.Shape{1, 2, 3}, 4},
		{"in place of the axis of 1", tensor.Shape{4, 2, 3}, tensor.Shape{1, 2, 3}, 4},
		{"one axis more, model without an axis of 1", tensor.Shape{4, 2, 3}, tensor.Shape{2, 3}, 4},
		{"scalars", tensor.Shape{4}, tensor.Shape{}, 4},
		{"axis of 2 is no batch", tensor.Shape{4, 3}, tensor.Shape{2, 3}, 0},
		{"other size", tensor.Shape{4, 2, 4}, tensor.Shape{1, 2, 3}, 0},
		{"axis missing", tensor.Shape{2, 3}, tensor.Shape{1, 2, 3}, 0},
		{"two axes more", tensor.Shape{1, 4, 1, 2, 3}, tensor.Shape{1, 2, 3}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			data := counting(c.file.Elements())
			shape := strings.NewReplacer("[", "(", "]", ",)").Replace(c.file.String())
			path := writeFile(t, "x.npy", npy("<f4", "False", shape, tensor.Bytes(data)))
			s, err := Open(path, value(tensor.Float32, c.want...), Options{})
			if c.count == 0 {
				if err == nil || !strings.Contains(err.Error(), c.file.String()) || !strings.Contains(err.Error(), c.want.String()) {
					t.Fatalf("error %v does not name both shapes", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if s.Count() != c.count {
				t.Fatalf("%d inputs, want %d", s.Count(), c.count)
			}
			size := c.want.Elements()
			for i := range c.count {
				wantF32(t, mustTensor(t, s, i), data[i*size:(i+1)*size]...)
			}
		})
	}
}

func TestRange(t *testing.T) {
	path := writeFile(t, "x.npy", npy("<f4", "False", "(5, 2)", tensor.Bytes(counting(10))))
	one := writeFile(t, "one.npy", npy("<f4", "False", "(1, 2)", tensor.Bytes(counting(2))))
	for _, c := range []struct {
		name, arg string
		names     []string // of the inputs
		first     float32
	}{
		{"all", path, []string{path + ":0", path + ":1", path + ":2", path + ":3", path + ":4"}, 0},
		{"one", path + ":3", []string{path + ":3"}, 6},
		{"several", path + ":1-2", []string{path + ":1", path + ":2"}, 2},
		{"to the end", path + ":4-4", []string{path + ":4"}, 8},
		{"file of one", one, []string{one}, 0},
		{"the one", one + ":0", []string{one + ":0"}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := mustOpen(t, c.arg, value(tensor.Float32, 1, 2), Options{})
			if s.Count() != len(c.names) {
				t.Fatalf("%d inputs, want %d", s.Count(), len(c.names))
			}
			for i, name := range c.names {
				if s.Name(i) != name {
					t.Errorf("input %d is %q, want %q", i, s.Name(i), name)
				}
				x := c.first + float32(2*i)
				wantF32(t, mustTensor(t, s, i), x, x+1)
			}
		})
	}
}

// Every message is one line that names the file, the cause and what to do.
func TestMessages(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for name, data := range map[string][]byte{
		"a.npy":      npy("<f4", "False", "(2, 3)", tensor.Bytes(counting(6))),
		"i.npy":      npy("<i8", "False", "(1, 3)", make([]byte, 24)),
		"short.npy":  npy("<f4", "False", "(2, 3)", make([]byte, 20)),
		"long.npy":   npy("<f4", "False", "(2, 3)", make([]byte, 28)),
		"none.npy":   npy("<f4", "False", "(0, 3)", nil),
		"big.npy":    npy(">f4", "False", "(1, 3)", make([]byte, 12)),
		"text.npy":   []byte("1 2 3\n"),
		"text.gz":    []byte("1 2 3\n"),
		"text.png":   []byte("1 2 3\n"),
		"text.wav":   []byte("1 2 3 4 5 6 7 8\n"),
		"x.csv":      []byte("1,2,3\n"),
		"i-ubyte":    idx([]int{2, 2, 3}, make([]byte, 12)),
		"cut-ubyte":  idx([]int{2, 2, 3}, make([]byte, 11)),
		"more-ubyte": idx([]int{2, 2, 3}, make([]byte, 13)),
		"lab-ubyte":  idx([]int{2}, make([]byte, 2)),
		"w.wav":      wavFile(1, 1, 16, make([]byte, 14)),
		"empty.txt":  nil,
	} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir("dir.npy", 0o700); err != nil {
		t.Fatal(err)
	}
	v := value(tensor.Float32, 1, 3)
	free := value(tensor.Float32, 1, 1)
	free.Free = []string{"batch", "seq"}
	picture := value(tensor.Float32, 1, 3, 8, 8)
	for _, c := range []struct {
		name, arg string
		want      graph.Value
		opt       Options
		message   string
	}{
		{"missing", "b.npy", v, Options{}, `b.npy: file does not exist; check the path`},
		{"folder", "dir.npy", v, Options{}, `dir.npy: is not a regular file; name a file`},
		{"unknown kind", "x.csv", v, Options{}, `x.csv: unknown kind of input; a name ends in one of .npy .pb .png .jpg .jpeg .wav -ubyte .gz`},
		{"shape", "a.npy", value(tensor.Float32, 1, 4), Options{}, `a.npy: has shape [2,3], but input "data" takes [1,4]; save that shape, or [N,4] for N inputs`},
		{"free shape", "a.npy", free, Options{}, `a.npy: has shape [2,3], but input "data" takes [1,1]; save that shape, or [N,1] for N inputs; or give other sizes by --dim: batch, seq`},
		{"type", "i.npy", v, Options{}, `i.npy: holds int64, but input "data" takes float32; convert the array`},
		{"cut short", "short.npy", v, Options{}, `short.npy: is cut short: 20 of 24 bytes of data; copy it again`},
		{"too long", "long.npy", v, Options{}, `long.npy: has 4 bytes behind its array; save one array a file`},
		{"no input", "none.npy", v, Options{}, `none.npy: holds no input; give another file`},
		{"big-endian", "big.npy", v, Options{}, `big.npy: holds elements of type ">f4", which cannot be read; convert with .astype('<f4')`},
		{"no npy", "text.npy", v, Options{}, `text.npy: is no .npy file; write it with numpy.save`},
		{"no IDX", "text.gz", v, Options{}, `text.gz: is no IDX file; give one like t10k-images-idx3-ubyte.gz`},
		{"no picture", "text.png", picture, Options{}, `text.png: is neither PNG nor JPEG; convert it`},
		{"no recording", "text.wav", v, Options{}, `text.wav: is no WAV file; convert it`},
		{"outside", "a.npy:1-2", v, Options{}, `a.npy: range 1-2 lies outside its 2 inputs; take one within 0-1`},
		{"backwards", "a.npy:2-1", v, Options{}, `a.npy:2-1: impossible range "2-1"; write FILE:7 or FILE:0-99`},
		{"huge range", "a.npy:99999999999999999999", v, Options{}, `a.npy:99999999999999999999: impossible range "99999999999999999999"; write FILE:7 or FILE:0-99`},
		{"IDX size", "i-ubyte", value(tensor.Float32, 1, 1, 3, 2), Options{}, `i-ubyte: has items of shape [2,3], but input "data" takes [1,1,3,2]; give a data set of that size`},
		{"IDX type", "i-ubyte", value(tensor.Int64, 1, 6), Options{}, `i-ubyte: holds bytes, but input "data" takes int64; give an .npy file of that type`},
		{"IDX cut short", "cut-ubyte", value(tensor.Float32, 1, 6), Options{}, `cut-ubyte: is cut short: 11 of 12 bytes of data; copy it again`},
		{"IDX too long", "more-ubyte", value(tensor.Float32, 1, 6), Options{}, `more-ubyte: is longer than its IDX header says: shape [2,2,3]; copy it again`},
		{"IDX labels", "lab-ubyte", value(tensor.Float32, 1, 6), Options{}, `lab-ubyte: has shape [2], which is labels; give the file of the pictures`},
		{"picture for another shape", "text.png", v, Options{}, `text.png: is a picture, but input "data" takes float32 [1,3], not float32 [1,3,H,W] or [1,1,H,W]; give an .npy file`},
		{"recording for another shape", "w.wav", picture, Options{}, `w.wav: is a recording, but input "data" takes float32 [1,3,8,8], not float32 samples; give an .npy file`},
		{"recording left over", "w.wav", v, Options{}, `w.wav: has 7 samples, 1 more than 2 windows of 3 for input "data"; cut it, or give the range :0-1`},
		{"recording too short", "w.wav", value(tensor.Float32, 1, 8), Options{}, `w.wav: has 7 samples, but input "data" takes 8; give a recording of that length`},
		{"mean of two channels", "text.png", picture, Options{Mean: []float32{1, 2}}, `text.png: has 3 channels, but --mean has 2 values; give one for all or one a channel`},
		{"std of 0", "text.png", picture, Options{Std: []float32{0}}, `text.png: standard deviation 0 is not a positive number; it is in 0–255 units, as 255 for x/255`},
		{"mean not a number", "text.png", picture, Options{Mean: []float32{float32(math.NaN())}}, `text.png: mean NaN is not a finite number`},
		{"resize", "text.png", picture, Options{Resize: "fit"}, `text.png: unknown way to resize "fit"; choose crop or stretch`},
		{"empty model input", "a.npy", value(tensor.Float32, 1, 0), Options{}, `a.npy: input "data" takes an empty tensor [1,0]; use another model`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Open(c.arg, c.want, c.opt)
			if err == nil || err.Error() != c.message {
				t.Errorf("got  %v\nwant %s", err, c.message)
			}
			if c.name == "missing" && !errors.Is(err, fs.ErrNotExist) {
				t.Error("a missing file is no fs.ErrNotExist")
			}
		})
	}
	if _, err := ReadLabels("empty.txt"); err == nil || err.Error() != "empty.txt: is empty; give a file with one label a line" {
		t.Errorf("empty labels: %v", err)
	}
}

// A file that shrinks after Open is an error, not an answer.
func TestFileChanges(t *testing.T) {
	file := npy("<f4", "False", "(2, 2)", tensor.Bytes(counting(4)))
	path := writeFile(t, "x.npy", file)
	s := mustOpen(t, path, value(tensor.Float32, 1, 2), Options{})
	if err := os.Truncate(path, int64(len(file)-1)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Tensor(1); err == nil || !strings.Contains(err.Error(), "x.npy:1") {
		t.Fatalf("error %v does not name the input", err)
	}
}

func TestReadConcurrently(t *testing.T) {
	const n = 64
	path := writeFile(t, "x.npy", npy("<f8", "False", "(64, 2)", tensor.Bytes(make([]float64, 2*n))))
	s := mustOpen(t, path, value(tensor.Float32, 1, 2), Options{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range n {
				if _, err := s.Tensor(i); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// The fields of a TensorProto: dims 1, data_type 2 (1 is float32), raw_data 9;
// a key is the field's number times eight, plus 2 for bytes.
func TestTensorProto(t *testing.T) {
	raw := tensor.Bytes(counting(6))
	b := append([]byte{1 << 3, 2, 1 << 3, 3, 2 << 3, 1, 9<<3 | 2, byte(len(raw))}, raw...)
	path := writeFile(t, "x.pb", b)
	s := mustOpen(t, path, value(tensor.Float32, 1, 3), Options{})
	if s.Count() != 2 {
		t.Fatalf("%d inputs", s.Count())
	}
	wantF32(t, mustTensor(t, s, 1), 3, 4, 5)

	_, err := Open(path, value(tensor.Float32, 1, 2), Options{})
	if err == nil || !strings.Contains(err.Error(), "shape [2,3]") {
		t.Error(err)
	}
	_, err = Open(writeFile(t, "cut.pb", b[:len(b)-1]), value(tensor.Float32, 1, 3), Options{})
	if err == nil || !strings.Contains(err.Error(), "cut.pb: ") || strings.Contains(err.Error(), "\n") {
		t.Error(err)
	}
}

func TestSqueezeNetVector(t *testing.T) {
	path := modelFile(t, "data/squeezenet1.1_test_vector/input_0.npy")
	s := mustOpen(t, path, value(tensor.Float32, 1, 3, 224, 224), Options{})
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	x := mustTensor(t, s, 0)
	if s.Count() != 1 || !bytes.Equal(x.Data, raw[len(raw)-len(x.Data):]) {
		t.Fatal("not the bytes of the file")
	}
}

func FuzzRange(f *testing.F) {
	for _, arg := range []string{"x.npy", "x.npy:7", "x.npy:0-99", "C:x.npy:1-2-3", "x:-", ":9999999999999999999-1"} {
		f.Add(arg)
	}
	f.Fuzz(func(t *testing.T, arg string) {
		path, win, err := splitRange(arg)
		switch {
		case err != nil:
		case win.given && (win.first < 0 || win.last < win.first || len(path) >= len(arg)):
			t.Fatalf("%q is %q, %+v", arg, path, win)
		case !win.given && path != arg:
			t.Fatalf("%q is %q", arg, path)
		}
	})
}
