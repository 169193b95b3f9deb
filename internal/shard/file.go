package shard

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"

	"starling/internal/engine"
	"starling/internal/plan"
	"starling/internal/tensor"
)

const (
	magic       = "STARSHRD"
	version     = 3
	headSize    = 64
	tailSize    = 24
	maxMetaSize = 16 << 20
	maxLayers   = 1 << 16
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// CorruptError says what is wrong with a shard file.
type CorruptError struct {
	Path   string
	Reason string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("shard file %s is damaged: %s", e.Path, e.Reason)
}

// Slice is one layer's part of a shard.
type Slice struct {
	Layer   int           // the layer's number in the plan
	Nth     int           // among the shard's slices of that layer, from 0
	Linear  engine.Linear // what the slice computes; zero of a stage
	Stage   *Stage        // nil if it is no stage
	Block   int           // rows that are computed and returned together; 1 of a stage
	Weights []byte        // Linear.WeightBytes or the stage's constants, aligned, of the mapped file
}

// meta is the JSON between the weights and the tail; see decodeMeta.
type meta struct {
	Slices []sliceMeta `json:"slices"`
}

type sliceMeta struct {
	Layer  int           `json:"layer"`
	Nth    int           `json:"nth,omitzero"`
	Block  int           `json:"block"`
	Linear engine.Linear `json:"linear,omitzero"`
	Stage  *Stage        `json:"stage,omitzero"`
	Offset int64         `json:"offset"` // from the start of the file, a multiple of 64
	CRC    uint32        `json:"crc"`    // CRC-32C of the weights
}

// Shard is an open shard file. Its slices may be read by several goroutines
// until Close.
type Shard struct {
	Slices []Slice
	data   []byte
}

// Open maps a shard file and checks all of it: structure, bounds and
// checksums. A damaged file gives a *CorruptError.
func Open(path string) (*Shard, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.Size() < headSize+tailSize {
		return nil, &CorruptError{path, fmt.Sprintf("%d bytes is too short", st.Size())}
	}
	data, err := mapFile(f, st.Size())
	if err != nil {
		return nil, fmt.Errorf("map shard file %s: %w", path, err)
	}
	slices, err := parse(data)
	if err != nil {
		return nil, errors.Join(&CorruptError{path, err.Error()}, unmapFile(data))
	}
	return &Shard{Slices: slices, data: data}, nil
}

// Close unmaps the file; the slices' weights must not be used any more.
func (s *Shard) Close() error {
	s.Slices = nil
	data := s.data
	s.data = nil
	if data == nil {
		return nil
	}
	return unmapFile(data)
}

// parse checks a whole file and returns views of its weights. data starts at
// a multiple of 64 bytes.
func parse(data []byte) ([]Slice, error) {
	if len(data) < headSize+tailSize {
		return nil, fmt.Errorf("%d bytes is too short", len(data))
	}
	if string(data[:8]) != magic {
		return nil, errors.New("it does not start as a shard file")
	}
	if v := binary.LittleEndian.Uint32(data[8:]); v != version {
		return nil, fmt.Errorf("version %d, this program reads version %d", v, version)
	}
	tail := data[len(data)-tailSize:]
	if string(tail[16:]) != magic {
		return nil, errors.New("its end is missing")
	}
	metaSize, metaCRC := binary.LittleEndian.Uint32(tail[0:]), binary.LittleEndian.Uint32(tail[4:])
	if size := binary.LittleEndian.Uint64(tail[8:]); size != uint64(len(data)) {
		return nil, fmt.Errorf("%d bytes, but it says %d", len(data), size)
	}
	if metaSize > maxMetaSize || int64(metaSize) > int64(len(data)-headSize-tailSize) {
		return nil, fmt.Errorf("description of %d bytes does not fit", metaSize)
	}
	metaStart := len(data) - tailSize - int(metaSize)
	rawMeta := data[metaStart : len(data)-tailSize]
	if crc32.Checksum(rawMeta, castagnoli) != metaCRC {
		return nil, errors.New("checksum of the description is wrong")
	}
	described, err := decodeMeta(rawMeta)
	if err != nil {
		return nil, fmt.Errorf("description: %w", err)
	}
	slices := make([]Slice, len(described))
	end := int64(headSize)
	for i, s := range described {
		size, err := s.weightBytes()
		if err != nil {
			return nil, fmt.Errorf("layer %d: %w", s.Layer, err)
		}
		if !s.follows(described[:i]) {
			return nil, fmt.Errorf("slice %d of layer %d is out of order", s.Nth, s.Layer)
		}
		if s.Offset < end || s.Offset%tensor.Align != 0 || s.Offset > int64(metaStart)-size {
			return nil, fmt.Errorf("layer %d: weights of %d bytes at byte %d do not fit", s.Layer, size, s.Offset)
		}
		end = s.Offset + size
		raw := data[s.Offset:end]
		if crc32.Checksum(raw, castagnoli) != s.CRC {
			return nil, fmt.Errorf("checksum of layer %d is wrong", s.Layer)
		}
		if s.Stage != nil {
			if _, err := s.Stage.Graph(raw); err != nil {
				return nil, fmt.Errorf("layer %d: its stage: %w", s.Layer, err)
			}
		}
		slices[i] = Slice{Layer: s.Layer, Nth: s.Nth, Linear: s.Linear, Stage: s.Stage, Block: s.Block, Weights: raw}
	}
	return slices, nil
}

// weightBytes is the size of the slice's weights, if what it says of itself can be.
func (s *sliceMeta) weightBytes() (int64, error) {
	if s.Stage != nil {
		if s.Linear != (engine.Linear{}) || s.Block != 1 {
			return 0, fmt.Errorf("a stage in blocks of %d rows or with a layer's geometry", s.Block)
		}
		return s.Stage.weightBytes()
	}
	l := s.Linear
	if err := l.Validate(); err != nil {
		return 0, err
	}
	if s.Block < 1 || s.Block > l.Rows || (l.Rows-1)/s.Block >= plan.MaxBlocks || s.Block < l.Rows && l.Conv.Groups > 1 {
		return 0, fmt.Errorf("blocks of %d rows of %d", s.Block, l.Rows)
	}
	return int64(l.WeightBytes()), nil // fits: Validate
}

// follows says whether s may come behind the others: layers in order, and of
// one layer the slices 0, 1, 2 …
func (s *sliceMeta) follows(others []sliceMeta) bool {
	if len(others) == 0 {
		return s.Layer >= 0 && s.Nth == 0
	}
	last := &others[len(others)-1]
	return s.Layer > last.Layer && s.Nth == 0 || s.Layer == last.Layer && s.Nth == last.Nth+1
}

// decodeMeta decodes the description slice by slice, so that its few bytes
// cannot ask for the memory of more than maxLayers.
func decodeMeta(raw []byte) ([]sliceMeta, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	for _, want := range []json.Token{json.Delim('{'), "slices", json.Delim('[')} {
		if got, err := dec.Token(); err != nil || got != want {
			return nil, errors.Join(fmt.Errorf("%v where %v must be", got, want), err)
		}
	}
	var all []sliceMeta
	for dec.More() {
		if len(all) == maxLayers {
			return nil, fmt.Errorf("more than %d layers", maxLayers)
		}
		var s sliceMeta
		if err := dec.Decode(&s); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	for _, want := range []json.Token{json.Delim(']'), json.Delim('}')} {
		if got, err := dec.Token(); err != nil || got != want {
			return nil, errors.Join(fmt.Errorf("%v where %v must be", got, want), err)
		}
	}
	return all, nil
}
