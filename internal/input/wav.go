package input

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"starling/internal/graph"
	"starling/internal/tensor"
)

// The WAV format (RIFF, little-endian): "RIFF" size "WAVE", then chunks of
// four letters, uint32 size and that many bytes, filled up to an even number.
// Chunk "fmt " is
//
//	0   uint16 format: 1 PCM, 3 IEEE float, 0xFFFE extensible
//	2   uint16 channels
//	4   uint32 samples a second, uint32 bytes a second
//	12  uint16 bytes a frame (one sample of every channel)
//	14  uint16 bits a sample
//	24  uint16 the format where extensible
const (
	wavPCM        = 1
	wavFloat      = 3
	wavExtensible = 0xFFFE
	maxWAVChunks  = 256
)

// openWAV opens a recording of 16-bit PCM, scaled to −1…1, or 32-bit floats,
// of which the first channel is taken, for a float32 input that has one
// dimension besides ones, say of T samples. The recording is cut into windows
// of T, which are run in turn; without a range no samples may be left over.
// The sample rate has to be the model's: a model file does not say its own.
func openWAV(r *io.SectionReader, want graph.Value, _ Options) (*Source, error) {
	long := squeeze(want.Shape)
	if want.Type != tensor.Float32 || len(long) > 1 {
		return nil, fmt.Errorf("is a recording, but input %q takes %v %v, not float32 samples; give an .npy file",
			want.Name, want.Type, want.Shape)
	}
	w, err := readWAV(r)
	if err != nil {
		return nil, err
	}
	length := want.Shape.Elements()
	frames := w.size / int64(w.frame)
	count := frames / int64(length)
	if count == 0 || count > math.MaxInt32 {
		return nil, fmt.Errorf("has %d samples, but input %q takes %d; give a recording of that length", frames, want.Name, length)
	}
	s := &Source{count: int(count), data: r, offset: w.offset, stride: int64(length) * int64(w.frame)}
	if over := frames % int64(length); over > 0 {
		s.rest = fmt.Sprintf("has %d samples, %d more than %d windows of %d for input %q; cut it, or give the range :0-%d",
			frames, over, count, length, want.Name, count-1)
	}
	if w.float {
		s.convert = func(dst *tensor.Tensor, b []byte) {
			for i := range dst.F32() {
				copy(dst.Data[4*i:4*i+4], b[i*w.frame:])
			}
		}
	} else {
		s.convert = func(dst *tensor.Tensor, b []byte) {
			out := dst.F32()
			for i := range out {
				out[i] = float32(int16(binary.LittleEndian.Uint16(b[i*w.frame:]))) / 32768
			}
		}
	}
	return s, nil
}

type wav struct {
	float  bool  // 32-bit floats, not 16-bit integers
	frame  int   // bytes of one sample of every channel
	offset int64 // of the first frame
	size   int64 // bytes of the frames
}

func readWAV(r *io.SectionReader) (wav, error) {
	var b [12]byte
	if _, err := r.ReadAt(b[:], 0); err != nil || string(b[:4]) != "RIFF" || string(b[8:]) != "WAVE" {
		return wav{}, errors.New("is no WAV file; convert it")
	}
	var w wav
	at := int64(len(b))
	for range maxWAVChunks {
		if _, err := r.ReadAt(b[:8], at); err != nil {
			return wav{}, errors.New("is a WAV file without data; record it again")
		}
		at += 8
		id, size := string(b[:4]), int64(binary.LittleEndian.Uint32(b[4:8]))
		if size > r.Size()-at {
			return wav{}, fmt.Errorf("is cut short: %d of %d bytes of chunk %q; copy it again", r.Size()-at, size, id)
		}
		switch id {
		case "fmt ":
			if err := w.readFormat(r, at, size); err != nil {
				return wav{}, err
			}
		case "data":
			if w.frame == 0 {
				return wav{}, errors.New("is a WAV file with data before its format; convert it")
			}
			w.offset, w.size = at, size
			return w, nil
		}
		at += size + size&1
	}
	return wav{}, fmt.Errorf("is a WAV file of more than %d chunks; convert it", maxWAVChunks)
}

func (w *wav) readFormat(r io.ReaderAt, at, size int64) error {
	b := make([]byte, min(size, 40))
	if _, err := r.ReadAt(b, at); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if len(b) < 16 {
		return errors.New("has a bad WAV format chunk; convert it")
	}
	word := func(i int) int { return int(binary.LittleEndian.Uint16(b[i:])) }
	format, channels, frame, bits := word(0), word(2), word(12), word(14)
	if format == wavExtensible && len(b) == 40 {
		format = word(24)
	}
	switch {
	case format == wavPCM && bits == 16:
		w.float = false
	case format == wavFloat && bits == 32:
		w.float = true
	default:
		return fmt.Errorf("is WAV format %d of %d bits, known are 16-bit PCM and 32-bit float; convert it", format, bits)
	}
	if channels == 0 || frame != channels*bits/8 {
		return fmt.Errorf("has a bad WAV format chunk: %d channels of %d bits in %d bytes; convert it", channels, bits, frame)
	}
	w.frame = frame
	return nil
}
