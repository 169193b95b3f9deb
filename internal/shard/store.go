package shard

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"os"
	"path/filepath"
)

// Store is a folder of shard files, each named by the SHA-256 of its bytes.
// Several processes may share one.
type Store struct {
	dir string
}

// OpenStore makes the folder if need be.
func OpenStore(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open shard store: %w", err)
	}
	return &Store{dir: dir}, nil
}

// Path is where the shard of that checksum is, whether it is there or not.
// sum must be 64 hex digits.
func (s *Store) Path(sum string) string { return filepath.Join(s.dir, sum+".shard") }

// Open is Open of the shard that want names; want.Path is not used. One that
// is whole but another, as files change places when a folder is put back by hand,
// gives a *CorruptError too.
func (s *Store) Open(want Info) (*Shard, error) {
	path := s.Path(want.SHA256)
	sh, err := Open(path)
	if err != nil {
		return nil, err
	}
	if int64(len(sh.data)) != want.Size || binary.LittleEndian.Uint32(sh.data[len(sh.data)-tailSize+4:]) != want.Description {
		return nil, errors.Join(&CorruptError{path, "it is another shard than its name says"}, sh.Close())
	}
	return sh, nil
}

func (s *Store) temporary() (*os.File, error) {
	f, err := os.CreateTemp(s.dir, "new-*.tmp")
	if err != nil {
		return nil, fmt.Errorf("write into shard store: %w", err)
	}
	return f, nil
}

// keep syncs and closes a temporary file and gives it its name. On an error the
// file is removed.
func (s *Store) keep(f *os.File, sum string) (string, error) {
	path := s.Path(sum)
	err := errors.Join(f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return "", err
	}
	return path, nil
}

// Remove removes a shard that is of no more use. Who has it open keeps it; that
// it may stay is no error.
func (s *Store) Remove(sum string) { os.Remove(s.Path(sum)) }

func discard(f *os.File) {
	f.Close()
	os.Remove(f.Name())
}

// Incoming is a shard on its way into a store.
type Incoming struct {
	store *Store
	file  *os.File
	sum   hash.Hash
	want  Info
	size  int64
}

// Receive starts taking in the shard that want names; want.Path is not used.
func (s *Store) Receive(want Info) (*Incoming, error) {
	f, err := s.temporary()
	if err != nil {
		return nil, err
	}
	return &Incoming{store: s, file: f, sum: sha256.New(), want: want}, nil
}

// Write appends the shard's next bytes; more than promised is an error.
func (in *Incoming) Write(b []byte) (int, error) {
	if in.size+int64(len(b)) > in.want.Size {
		return 0, fmt.Errorf("shard %s is longer than its %d bytes", in.want.SHA256, in.want.Size)
	}
	in.size += int64(len(b))
	in.sum.Write(b)
	return in.file.Write(b)
}

// Size is the number of bytes taken in so far.
func (in *Incoming) Size() int64 { return in.size }

// Done reports whether all promised bytes are in.
func (in *Incoming) Done() bool { return in.size == in.want.Size }

// Finish checks size and checksum and keeps the file. On an error nothing is
// left behind.
func (in *Incoming) Finish() error {
	sum := hex.EncodeToString(in.sum.Sum(nil))
	if !in.Done() || sum != in.want.SHA256 {
		in.Abandon()
		return &CorruptError{in.want.SHA256, fmt.Sprintf("received %d bytes with checksum %s", in.size, sum)}
	}
	f := in.file
	in.file = nil
	_, err := in.store.keep(f, sum)
	return err
}

// Abandon removes what came in; after Finish it does nothing.
func (in *Incoming) Abandon() {
	if in.file != nil {
		discard(in.file)
		in.file = nil
	}
}
