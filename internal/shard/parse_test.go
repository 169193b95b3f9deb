package shard

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"starling/internal/engine"
	"starling/internal/graph"
	"starling/internal/kernel"
	"starling/internal/tensor"
)

// assemble makes a file of weights and a description, with right checksums of
// the whole: what a liar can write.
func assemble(weights []byte, description string) []byte {
	size := headSize + len(weights) + len(description) + tailSize
	b := tensor.Alloc(size)[:0]
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint32(b, version)
	b = append(b, make([]byte, headSize-len(b))...)
	b = append(b, weights...)
	b = append(b, description...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(description)))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum([]byte(description), castagnoli))
	b = binary.LittleEndian.AppendUint64(b, uint64(size))
	return append(b, magic...)
}

func describe(t testing.TB, slices ...sliceMeta) string {
	t.Helper()
	raw, err := json.Marshal(meta{slices})
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// honest is a description of two slices [2,8] that 128 bytes of zeros fulfil.
func honest() []sliceMeta {
	crc := crc32.Checksum(make([]byte, 64), castagnoli)
	l := engine.Linear{Op: "Gemm", Rows: 2, Cols: 8, Outer: 1, Inner: 1}
	return []sliceMeta{{Layer: 0, Block: 2, Linear: l, Offset: 64, CRC: crc}, {Layer: 3, Block: 1, Linear: l, Offset: 128, CRC: crc}}
}

func TestParseHonest(t *testing.T) {
	slices, err := parse(assemble(make([]byte, 128), describe(t, honest()...)))
	if err != nil || len(slices) != 2 || len(slices[1].Weights) != 64 {
		t.Fatalf("%+v, %v", slices, err)
	}
}

// A description whose checksum is right but which lies.
func TestParseLies(t *testing.T) {
	const huge = 1 << 30
	for _, c := range []struct {
		name string
		lie  func(s []sliceMeta)
		says string // part of the error
	}{
		{"offset into the head", func(s []sliceMeta) { s[0].Offset = 0 }, "do not fit"},
		{"negative offset", func(s []sliceMeta) { s[0].Offset = -64 }, "do not fit"},
		{"offset that is not aligned", func(s []sliceMeta) { s[1].Offset = 132 }, "do not fit"},
		{"overlapping slices", func(s []sliceMeta) { s[1].Offset = 64 }, "do not fit"},
		{"offset beyond the weights", func(s []sliceMeta) { s[1].Offset = 192 }, "do not fit"},
		{"huge offset", func(s []sliceMeta) { s[1].Offset = 1<<63 - 64 }, "do not fit"},
		{"more rows than there are bytes", func(s []sliceMeta) { s[1].Linear.Rows = 4 }, "do not fit"},
		{"no rows", func(s []sliceMeta) { s[0].Linear.Rows = 0 }, "must be positive"},
		{"blocks of no rows", func(s []sliceMeta) { s[0].Block = 0 }, "blocks of 0 rows"},
		{"blocks of more rows than there are", func(s []sliceMeta) { s[1].Block = 3 }, "blocks of 3 rows"},
		{"too many blocks", func(s []sliceMeta) { s[1].Linear.Rows = 65 }, "blocks of 1 rows"},
		{"negative rows", func(s []sliceMeta) { s[0].Linear.Rows = -1 }, "must be positive"},
		{"second slice of a layer without a first", func(s []sliceMeta) { s[0].Nth = 1 }, "out of order"},
		{"third slice of a layer after the first", func(s []sliceMeta) { s[1].Layer, s[1].Nth = 0, 2 }, "out of order"},
		{"negative cols", func(s []sliceMeta) { s[0].Linear.Cols = -8 }, "must be positive"},
		{"huge rows and cols", func(s []sliceMeta) { s[0].Linear.Rows, s[0].Linear.Cols = huge, huge }, "layer 0"},
		{"huge batch", func(s []sliceMeta) { s[0].Linear.Outer = math.MaxInt }, "impossible shape"},
		{"unknown operator", func(s []sliceMeta) { s[0].Linear.Op = "Softmax" }, "not a linear layer"},
		{"geometry of no convolution", func(s []sliceMeta) { s[0].Linear.Op = "Conv" }, "convolution"},
		{"geometry at a dense layer", func(s []sliceMeta) { s[0].Linear.Conv.N = 1 }, "geometry"},
		{"layer twice", func(s []sliceMeta) { s[1].Layer = 0 }, "out of order"},
		{"negative layer", func(s []sliceMeta) { s[0].Layer = -1 }, "out of order"},
		{"wrong checksum of the weights", func(s []sliceMeta) { s[1].CRC++ }, "checksum of layer 3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := honest()
			c.lie(s)
			checkRefused(t, assemble(make([]byte, 128), describe(t, s...)), c.says)
		})
	}
	text := describe(t, honest()...)
	for _, c := range []struct{ name, description, says string }{
		{"empty description", "", "EOF"},
		{"no JSON", "weights", "description"},
		{"a list", "[]", "description"},
		{"another key", strings.Replace(text, "slices", "layers", 1), "description"},
		{"an unknown key in a slice", strings.Replace(text, "crc", "parity", 1), "unknown field"},
		{"ends early", text[:len(text)-2], "description"},
		{"null for a slice", `{"slices":[null]}`, "must be positive"},
		{"number for a slice", `{"slices":[7]}`, "description"},
		{"numbers beyond int64", strings.Replace(text, `"offset":64`, `"offset":92233720368547758080`, 1), "description"},
	} {
		t.Run(c.name, func(t *testing.T) {
			checkRefused(t, assemble(make([]byte, 128), c.description), c.says)
		})
	}
}

func checkRefused(t *testing.T, file []byte, says string) {
	t.Helper()
	slices, err := parse(file)
	if err == nil || !strings.Contains(err.Error(), says) {
		t.Errorf("got %d slices, %v; want an error with %q", len(slices), err, says)
	}
}

func TestParseEnds(t *testing.T) {
	for _, c := range []struct {
		name string
		lie  func(file []byte)
		says string
	}{
		{"another start", func(f []byte) { f[0]++ }, "does not start"},
		{"older version", func(f []byte) { f[8] = 2 }, "version 2, this program reads version 3"},
		{"newer version", func(f []byte) { f[8] = 4 }, "version 4, this program reads version 3"},
		{"another end", func(f []byte) { f[len(f)-1]++ }, "end is missing"},
		{"another size", func(f []byte) { f[len(f)-16]++ }, "but it says"},
		{"description of more than the file", func(f []byte) { f[len(f)-23] = 8 }, "does not fit"},
		{"description of 4 GiB", func(f []byte) { copy(f[len(f)-24:], "\xff\xff\xff\xff") }, "does not fit"},
		{"wrong checksum of the description", func(f []byte) { f[len(f)-20]++ }, "checksum of the description"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := assemble(make([]byte, 128), describe(t, honest()...))
			c.lie(file)
			checkRefused(t, file, c.says)
		})
	}
}

// Whichever bit is flipped, and wherever the file is cut, it is refused or says
// the very same: then the bit was one of the padding.
func TestParseFlips(t *testing.T) {
	weights := tensor.Alloc(2 * 64)
	for i := range 80 { // the second slice is followed by 48 bytes of padding
		weights[i] = byte(i*7 + 1)
	}
	described := honest()
	described[0].CRC = crc32.Checksum(weights[:64], castagnoli)
	described[1].Linear.Cols, described[1].CRC = 2, crc32.Checksum(weights[64:80], castagnoli)
	file := assemble(weights, describe(t, described...))
	want, err := parse(file)
	if err != nil {
		t.Fatal(err)
	}
	wantText := fmt.Sprint(want)
	same := 0
	for bit := range 8 * len(file) {
		file[bit/8] ^= 1 << (bit % 8)
		if got, err := parse(file); err == nil {
			same++
			if fmt.Sprint(got) != wantText {
				t.Errorf("bit %d: %+v", bit, got)
			}
		}
		file[bit/8] ^= 1 << (bit % 8)
	}
	if pads := 8 * (headSize - 12 + 48); same != pads {
		t.Errorf("%d bits do not matter, want %d", same, pads)
	}
	for size := range file {
		if _, err := parse(file[:size]); err == nil {
			t.Errorf("cut to %d of %d bytes: no error", size, len(file))
		}
	}
}

// A description of as many and as short slices as fit takes memory for at most
// maxLayers of them. Of some 300 bytes each, doubling as they come, with what
// the decoder needs, that is below 160 MiB; all of them would take over a GiB.
func TestParseAllocatesLittle(t *testing.T) {
	n := maxMetaSize/2 - 16
	file := assemble(nil, `{"slices":[`+strings.Repeat(`{},`, n*2/3)+`{}]}`)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	checkRefused(t, file, "more than 65536 layers")
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > 160<<20 {
		t.Errorf("%d bytes allocated", took)
	}
}

// FuzzParse reads anything, and repairs the checksum of the description of what
// has one, so that what lies behind is reached.
func FuzzParse(f *testing.F) {
	good := honest()
	f.Add(assemble(make([]byte, 128), describe(f, good...)))
	f.Add(assemble(nil, describe(f)))
	conv := kernel.Conv3D{Conv2D: kernel.Conv2D{
		N: 1, C: 2, H: 3, W: 3, M: 2, KH: 2, KW: 2, StrideH: 1, StrideW: 1,
		DilationH: 1, DilationW: 1, Groups: 1, OH: 2, OW: 2,
	}}
	for _, numbers := range []engine.Integers{
		{Input: tensor.Uint8, Weights: tensor.Uint8, Zero: 7, Result: tensor.Int32}, {Input: tensor.Int8, Weights: tensor.Int32, Result: tensor.Int64},
	} {
		good[1].Linear.Integers = numbers
		f.Add(assemble(make([]byte, 128), describe(f, good...)))
	}
	good[0].Linear = engine.Linear{Op: "Conv", Rows: 2, Cols: 8, Outer: 1, Inner: 4, Conv: conv}
	f.Add(assemble(make([]byte, 128), describe(f, good...)))
	f.Add(assemble(make([]byte, 192), describe(f, honestStage()...)))
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, b []byte) {
		file := tensor.Alloc(len(b))
		copy(file, b)
		if len(file) >= headSize+tailSize {
			tail := file[len(file)-tailSize:]
			binary.LittleEndian.PutUint64(tail[8:], uint64(len(file)))
			if n := int64(binary.LittleEndian.Uint32(tail)); n <= int64(len(file)-headSize-tailSize) {
				binary.LittleEndian.PutUint32(tail[4:], crc32.Checksum(file[int64(len(file)-tailSize)-n:len(file)-tailSize], castagnoli))
			}
		}
		slices, err := parse(file)
		if err != nil {
			return
		}
		for _, s := range slices {
			if s.Stage != nil {
				runStage(t, &s)
				continue
			}
			if len(s.Weights) != s.Linear.WeightBytes() {
				t.Errorf("slice of %+v has %d bytes of weights", s.Linear, len(s.Weights))
			}
			crc32.ChecksumIEEE(s.Weights) // every one must be there to read
		}
	})
}

// runStage has what passed parse compiled and run, if it is small.
func runStage(t *testing.T, s *Slice) {
	g, err := s.Stage.Graph(s.Weights)
	if err != nil {
		t.Fatalf("parsed, but then %v", err)
	}
	elements, work := 0, int64(0)
	for _, info := range g.Infos {
		elements += info.Shape.Elements()
	}
	for _, n := range g.Nodes {
		work += graph.FLOPs(g, n)
	}
	if elements > 1<<16 || work > 1<<24 {
		return
	}
	stage, err := engine.NewStage(g, nil)
	if err != nil {
		return
	}
	size := func(info graph.Info) int { return info.Shape.Elements() * info.Type.Size() }
	_, _ = stage.Run(tensor.Alloc(size(g.Infos[g.Outputs[0]])), tensor.Alloc(size(g.Inputs[0].Info)), nil, time.Time{})
}
