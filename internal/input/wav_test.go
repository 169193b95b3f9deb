package input

import (
	"bytes"
	"encoding/binary"
	"io"
	"math"
	"strings"
	"testing"

	"starling/internal/tensor"
)

// wavFile has an odd chunk before the data.
func wavFile(format, channels, bits int, data []byte) []byte {
	le := binary.LittleEndian
	b := append([]byte("RIFF\x00\x00\x00\x00WAVE"), "LIST\x03\x00\x00\x00abc\x00"...)
	fmtSize := 16
	if format == wavExtensible {
		fmtSize = 40
	}
	b = le.AppendUint32(append(b, "fmt "...), uint32(fmtSize))
	f := make([]byte, fmtSize)
	le.PutUint16(f, uint16(format))
	le.PutUint16(f[2:], uint16(channels))
	le.PutUint32(f[4:], 16000)
	le.PutUint16(f[12:], uint16(channels*bits/8))
	le.PutUint16(f[14:], uint16(bits))
	if format == wavExtensible {
		le.PutUint16(f[24:], wavPCM)
	}
	b = le.AppendUint32(append(append(b, f...), "data"...), uint32(len(data)))
	return append(b, data...)
}

func TestWAV(t *testing.T) {
	pcm := tensor.Bytes([]int16{0, 16384, -32768, 32767})
	floats := tensor.Bytes([]float32{0, 0.5, -1, 0.25})
	for _, c := range []struct {
		name  string
		file  []byte
		shape tensor.Shape
		want  []float32 // the last window
		count int
	}{
		{"16-bit", wavFile(wavPCM, 1, 16, pcm), tensor.Shape{1, 4}, []float32{0, 0.5, -1, 32767. / 32768}, 1},
		{"in windows", wavFile(wavPCM, 1, 16, pcm), tensor.Shape{1, 1, 2}, []float32{-1, 32767. / 32768}, 2},
		{"first of two channels", wavFile(wavPCM, 2, 16, pcm), tensor.Shape{2}, []float32{0, -1}, 1},
		{"float", wavFile(wavFloat, 1, 32, floats), tensor.Shape{1, 4, 1}, []float32{0, 0.5, -1, 0.25}, 1},
		{"float, first of two channels", wavFile(wavFloat, 2, 32, floats), tensor.Shape{1}, []float32{-1}, 2},
		{"extensible", wavFile(wavExtensible, 1, 16, pcm), tensor.Shape{1, 4}, []float32{0, 0.5, -1, 32767. / 32768}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := mustOpen(t, writeFile(t, "x.wav", c.file), value(tensor.Float32, c.shape...), Options{})
			if s.Count() != c.count {
				t.Fatalf("%d windows, want %d", s.Count(), c.count)
			}
			wantF32(t, mustTensor(t, s, c.count-1), c.want...)
		})
	}
	t.Run("a range allows a rest", func(t *testing.T) {
		s := mustOpen(t, writeFile(t, "x.wav", wavFile(wavPCM, 1, 16, pcm))+":0", value(tensor.Float32, 3), Options{})
		wantF32(t, mustTensor(t, s, 0), 0, 0.5, -1)
	})
}

func TestWAVRefused(t *testing.T) {
	good := wavFile(wavPCM, 1, 16, make([]byte, 8))
	data := bytes.Index(good, []byte("data"))
	head := good[:12]
	frame := bytes.Clone(good)
	frame[bytes.Index(good, []byte("fmt "))+8+12] = 5 // bytes a frame
	for _, c := range []struct {
		name string
		file []byte
		want string
	}{
		{"8 bits", wavFile(wavPCM, 1, 8, make([]byte, 8)), "WAV format 1 of 8 bits"},
		{"compressed", wavFile(2, 1, 4, make([]byte, 8)), "WAV format 2"},
		{"no data", good[:data], "without data"},
		{"data cut short", good[:len(good)-1], `7 of 8 bytes of chunk "data"`},
		{"no channels", wavFile(wavPCM, 0, 16, make([]byte, 8)), "0 channels"},
		{"frame", frame, "in 5 bytes"},
		{"data before format", append(bytes.Clone(head), good[data:]...), "data before its format"},
		{"many chunks", append(bytes.Clone(head), bytes.Repeat([]byte("abcd\x00\x00\x00\x00"), 300)...), "more than 256 chunks"},
		{"short format", append(bytes.Clone(head), "fmt \x02\x00\x00\x00\x01\x00"...), "bad WAV format"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Open(writeFile(t, "x.wav", c.file), value(tensor.Float32, 4), Options{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// marvin.wav is a word of one second in two equal channels at 16 kHz.
func TestSpeech(t *testing.T) {
	s := mustOpen(t, modelFile(t, "data/speech/marvin.wav"), value(tensor.Float32, 1, 16000), Options{})
	if s.Count() != 1 {
		t.Fatalf("%d windows", s.Count())
	}
	x := mustTensor(t, s, 0).F32()
	// The file's first samples are 0xff45, 0xff0b, 0xfef8.
	for i, want := range []float32{-187. / 32768, -245. / 32768, -264. / 32768} {
		if x[i] != want {
			t.Errorf("sample %d is %v, want %v", i, x[i], want)
		}
	}
	for i, v := range x {
		if !(math.Abs(float64(v)) <= 1) {
			t.Fatalf("sample %d is %v", i, v)
		}
	}
}

func FuzzWAV(f *testing.F) {
	f.Add(wavFile(wavPCM, 2, 16, make([]byte, 16)))
	f.Add(wavFile(wavFloat, 1, 32, make([]byte, 16)))
	f.Add(wavFile(wavExtensible, 1, 16, make([]byte, 16)))
	want := value(tensor.Float32, 1, 4)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := openWAV(io.NewSectionReader(bytes.NewReader(b), 0, int64(len(b))), want, Options{})
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("not one line: %v", err)
			}
			return
		}
		s.want = want
		for i := range min(s.Count(), 100) {
			mustTensor(t, s, i)
		}
	})
}
