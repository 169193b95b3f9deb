package shard

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"hash/crc32"
	"os"
	"slices"

	"starling/internal/engine"
	"starling/internal/graph"
	"starling/internal/plan"
	"starling/internal/tensor"
)

// Info names a finished shard file.
type Info struct {
	SHA256 string // of the file's bytes, in hex: its name in a Store
	Size   int64  // of the file
	Path   string
	// Description is the CRC-32C of the file's description, which has those of all
	// weights: it tells one shard from another without reading them.
	Description uint32
}

// Build cuts the weights of a prepared graph by plan and writes one shard per
// worker into the store: Info i belongs to worker i. It holds one layer's
// matrix and parity in memory at a time. A failure leaves no file behind.
func Build(store *Store, g *graph.Graph, p *plan.Plan) (infos []Info, err error) {
	writers := make([]*writer, p.N())
	defer func() {
		for _, w := range writers {
			w.abandon()
		}
	}()
	for i := range writers {
		if writers[i], err = newWriter(store); err != nil {
			return nil, err
		}
	}
	nodes := p.Nodes(g)
	for i := range p.Layers {
		layer := &p.Layers[i]
		if layer.Run != nil {
			if err := writeStage(writers, i, layer, g); err != nil {
				return nil, err
			}
			continue
		}
		if nodes[i] == nil {
			return nil, fmt.Errorf("the plan's layer %s is not in the model", layer.Node)
		}
		linear, weights, err := engine.LinearOf(g, nodes[i]...)
		if err != nil {
			return nil, err
		}
		if linear != layer.Linear {
			return nil, fmt.Errorf("the plan's layer %s is another one in the model", layer.Node)
		}
		if err := writeLayer(writers, i, layer, weights); err != nil {
			return nil, err
		}
	}
	for i, w := range writers {
		if err := w.finish(); err != nil {
			return nil, fmt.Errorf("write shard of worker %d: %w", i+1, err)
		}
	}
	return keepAll(store, writers)
}

// writeStage writes a stage, layer number i, for all that hold it.
func writeStage(writers []*writer, i int, layer *plan.Layer, g *graph.Graph) error {
	s, err := g.StageOf(layer.Run.From, layer.Run.To)
	if err != nil {
		return fmt.Errorf("stage %s: %w", layer.Node, err)
	}
	if !slices.EqualFunc(s.Nodes, layer.Nodes, func(n *graph.Node, name string) bool { return n.Name == name }) {
		return fmt.Errorf("the plan's stage %s is another one in the model", layer.Node)
	}
	stage, constants, err := describeStage(g, s)
	if err == nil {
		_, err = stage.graph(constants) // so that whoever reads it can
	}
	if err != nil {
		return fmt.Errorf("stage %s: %w", layer.Node, err)
	}
	for n, worker := range layer.Workers {
		if err := writers[worker].slice(Slice{Layer: i, Nth: layer.Nth(n), Stage: stage, Block: 1}, constants...); err != nil {
			return err
		}
	}
	return nil
}

// writeLayer writes the slices of a layer, number i, of weights w [Rows,Cols].
func writeLayer(writers []*writer, i int, layer *plan.Layer, w []byte) error {
	own := make([][]byte, layer.K())
	for j := range own {
		own[j] = layer.Weights(j, w)
	}
	for s, worker := range layer.Workers {
		slice := layer.Slice(s)
		var weights []byte
		switch {
		case layer.Cover == plan.Parity && s >= layer.K():
			var err error
			if weights, err = encode(layer, s-layer.K(), own, 0, slice.Rows); err != nil {
				return err
			}
		case layer.Cover == plan.Inputs:
			weights = w
		default:
			weights = own[s%layer.K()]
		}
		if err := writers[worker].slice(Slice{Layer: i, Nth: layer.Nth(s), Linear: slice, Block: min(layer.BlockHeight(), slice.Rows)}, weights); err != nil {
			return err
		}
	}
	return nil
}

// keepAll gives finished files their names: after whatever else can fail.
// Should one fail here nevertheless, those that are new are removed again.
func keepAll(store *Store, writers []*writer) (infos []Info, err error) {
	var made []string
	for i, w := range writers {
		info := w.info()
		_, statErr := os.Lstat(store.Path(info.SHA256))
		f := w.file
		w.file = nil
		if info.Path, err = store.keep(f, info.SHA256); err != nil {
			for _, path := range made {
				os.Remove(path)
			}
			return nil, fmt.Errorf("keep shard of worker %d: %w", i+1, err)
		}
		if statErr != nil {
			made = append(made, info.Path)
		}
		infos = append(infos, info)
	}
	return infos, nil
}

// writer streams one shard file into a temporary file of the store.
type writer struct {
	store *Store
	file  *os.File
	buf   *bufio.Writer
	sum   hash.Hash
	size  int64
	meta  meta

	description uint32 // CRC-32C of meta as it is written
}

// info names a finished file but for its path.
func (w *writer) info() Info {
	return Info{SHA256: hex.EncodeToString(w.sum.Sum(nil)), Size: w.size, Description: w.description}
}

func newWriter(store *Store) (*writer, error) {
	f, err := store.temporary()
	if err != nil {
		return nil, err
	}
	w := &writer{store: store, file: f, buf: bufio.NewWriterSize(f, 64<<10), sum: sha256.New()}
	w.meta.Slices = []sliceMeta{} // a worker may have none
	var head [headSize]byte
	copy(head[:], magic)
	binary.LittleEndian.PutUint32(head[8:], version)
	if err := w.write(head[:]); err != nil {
		w.abandon()
		return nil, err
	}
	return w, nil
}

func (w *writer) write(b []byte) error {
	w.sum.Write(b)
	w.size += int64(len(b))
	_, err := w.buf.Write(b)
	return err
}

// slice writes a slice whose weights are the pieces, each at a multiple of
// tensor.Align.
func (w *writer) slice(s Slice, pieces ...[]byte) error {
	w.meta.Slices = append(w.meta.Slices, sliceMeta{
		Layer: s.Layer, Nth: s.Nth, Linear: s.Linear, Stage: s.Stage, Block: s.Block, Offset: w.size, CRC: checksum(pieces...),
	})
	for _, p := range pieces {
		if err := w.pad(); err != nil {
			return err
		}
		if err := w.write(p); err != nil {
			return err
		}
	}
	return w.pad()
}

func (w *writer) pad() error {
	var zeros [tensor.Align]byte
	return w.write(zeros[:-w.size&(tensor.Align-1)])
}

// finish writes what comes behind the weights; the file has no name yet.
func (w *writer) finish() error {
	raw, err := json.Marshal(w.meta)
	if err != nil {
		return err
	}
	if err := w.write(raw); err != nil {
		return err
	}
	var tail [tailSize]byte
	binary.LittleEndian.PutUint32(tail[0:], uint32(len(raw)))
	w.description = crc32.Checksum(raw, castagnoli)
	binary.LittleEndian.PutUint32(tail[4:], w.description)
	binary.LittleEndian.PutUint64(tail[8:], uint64(w.size+tailSize))
	copy(tail[16:], magic)
	if err := w.write(tail[:]); err != nil {
		return err
	}
	if err := w.buf.Flush(); err != nil {
		return err
	}
	return w.file.Sync()
}

// abandon removes a file that was not kept; on nil it does nothing.
func (w *writer) abandon() {
	if w == nil || w.file == nil {
		return
	}
	discard(w.file)
	w.file = nil
}
