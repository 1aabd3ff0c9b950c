// Verify checks an exported log and proofs from it with the packages that Go's own checksum
// database rests on: golang.org/x/mod/sumdb/note and golang.org/x/mod/sumdb/tlog.
//
//	verify VKEY DIR [PROOFS]
//
// DIR is what `aslgate ledger export` writes, PROOFS a JSON file of inclusion and consistency proofs.
// Every entry is hashed and compared with the tile that should hold it, every tile with the tree.
package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const height = 8
const width = 1 << height

// tiles reads tiles from files, as tlog-tiles names them.
type tiles string

func (dir tiles) Height() int                         { return height }
func (dir tiles) SaveTiles(_ []tlog.Tile, _ [][]byte) {}
func (dir tiles) ReadTiles(asked []tlog.Tile) ([][]byte, error) {
	var found [][]byte
	for _, tile := range asked {
		path := strings.TrimPrefix(tile.Path(), fmt.Sprintf("tile/%d/", height))
		data, err := os.ReadFile(filepath.Join(string(dir), "tile", path))
		if err != nil {
			return nil, err
		}
		if len(data) != tile.W*tlog.HashSize {
			return nil, fmt.Errorf("%s has %d bytes", path, len(data))
		}
		found = append(found, data)
	}
	return found, nil
}

// signedTree is the size and root that the key has signed.
func signedTree(vkey string, dir string) (tlog.Tree, error) {
	var tree tlog.Tree
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return tree, err
	}
	data, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	if err != nil {
		return tree, err
	}
	opened, err := note.Open(data, note.VerifierList(verifier))
	if err != nil {
		return tree, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != verifier.Name() {
		return tree, fmt.Errorf("the note is no checkpoint of %s", verifier.Name())
	}
	if tree.N, err = strconv.ParseInt(lines[1], 10, 64); err != nil {
		return tree, err
	}
	tree.Hash, err = tlog.ParseHash(lines[2])
	return tree, err
}

// entries checks every entry bundle against the tree.
func entries(tree tlog.Tree, dir string) error {
	reader := tlog.TileHashReader(tree, tiles(dir))
	for first := int64(0); first < tree.N; first += width {
		many := min(width, tree.N-first)
		tile := tlog.Tile{H: height, L: -1, N: first / width, W: int(many)}
		path := strings.Replace(tile.Path(), fmt.Sprintf("tile/%d/data/", height), "tile/entries/", 1)
		bundle, err := os.ReadFile(filepath.Join(dir, path))
		if err != nil {
			return err
		}
		var indexes []int64
		for i := range many {
			indexes = append(indexes, tlog.StoredHashIndex(0, first+i))
		}
		hashes, err := reader.ReadHashes(indexes)
		if err != nil {
			return err
		}
		for i, hash := range hashes {
			if len(bundle) < 2 || len(bundle) < 2+int(binary.BigEndian.Uint16(bundle)) {
				return fmt.Errorf("%s ends too early", path)
			}
			end := 2 + int(binary.BigEndian.Uint16(bundle))
			if tlog.RecordHash(bundle[2:end]) != hash {
				return fmt.Errorf("entry %d is not the one that was recorded", first+int64(i))
			}
			bundle = bundle[end:]
		}
		if len(bundle) != 0 {
			return fmt.Errorf("%s goes on", path)
		}
	}
	return nil
}

type proofs struct {
	Inclusion []struct {
		Index int64
		Entry []byte
		Proof tlog.RecordProof
	}
	Consistency []struct {
		Size  int64
		Root  tlog.Hash
		Proof tlog.TreeProof
	}
}

// proven checks proofs against the tree.
func proven(tree tlog.Tree, path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var said proofs
	if err := json.Unmarshal(data, &said); err != nil {
		return err
	}
	for _, one := range said.Inclusion {
		hash := tlog.RecordHash(one.Entry)
		if err := tlog.CheckRecord(one.Proof, tree.N, tree.Hash, one.Index, hash); err != nil {
			return fmt.Errorf("entry %d: %w", one.Index, err)
		}
	}
	for _, one := range said.Consistency {
		if err := tlog.CheckTree(one.Proof, tree.N, tree.Hash, one.Size, one.Root); err != nil {
			return fmt.Errorf("size %d: %w", one.Size, err)
		}
	}
	return nil
}

func run(vkey string, dir string, files []string) error {
	tree, err := signedTree(vkey, dir)
	if err != nil {
		return err
	}
	if err := entries(tree, dir); err != nil {
		return err
	}
	for _, file := range files {
		if err := proven(tree, file); err != nil {
			return err
		}
	}
	fmt.Println(tree.N, "entries,", tree.Hash)
	return nil
}

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: verify VKEY DIR [PROOFS]")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, "refused:", err)
		os.Exit(1)
	}
}
