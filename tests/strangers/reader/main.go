// Reads a log as a stranger does: with the libraries of the C2SP world, the log's public key and nothing else.
//
//	reader log PREFIX LOG-VKEY [WITNESS-VKEY…]   checkpoint, every tile, proofs from the tiles, cosignatures
//	reader proof FILE LOG-VKEY                   a tlog-proof file: the leaf that it carries is in the log
//
// Says what it verified, one line each; anything else is an exit code.
package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"slices"

	flog "github.com/transparency-dev/formats/log"
	fnote "github.com/transparency-dev/formats/note"
	fproof "github.com/transparency-dev/formats/proof"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/tessera/client"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func main() {
	log.SetFlags(0)
	var err error
	switch {
	case len(os.Args) >= 4 && os.Args[1] == "log":
		err = readLog(os.Args[2], os.Args[3], os.Args[4:])
	case len(os.Args) == 4 && os.Args[1] == "proof":
		err = readProof(os.Args[2], os.Args[3])
	default:
		err = fmt.Errorf("usage: reader log PREFIX LOG-VKEY [WITNESS-VKEY…] | reader proof FILE LOG-VKEY")
	}
	if err != nil {
		log.Fatal(err)
	}
}

func readLog(prefix, vkey string, witnesses []string) error {
	ctx := context.Background()
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return fmt.Errorf("the log's vkey: %w", err)
	}
	root, err := url.Parse(prefix + "/")
	if err != nil {
		return err
	}
	fetcher, err := client.NewHTTPFetcher(root, nil)
	if err != nil {
		return err
	}
	raw, err := fetcher.ReadCheckpoint(ctx)
	if err != nil {
		return err
	}
	checkpoint, _, _, err := flog.ParseCheckpoint(raw, verifier.Name(), verifier)
	if err != nil {
		return fmt.Errorf("the checkpoint: %w", err)
	}
	fmt.Printf("checkpoint %d\n", checkpoint.Size)

	if err := withTessera(ctx, fetcher, checkpoint); err != nil {
		return fmt.Errorf("tessera: %w", err)
	}
	if err := withSumdb(prefix, checkpoint); err != nil {
		return fmt.Errorf("sumdb: %w", err)
	}
	return cosigned(prefix, verifier, witnesses)
}

// withTessera proves every leaf in the tree, and every tree before it, from the tiles.
func withTessera(ctx context.Context, fetcher *client.HTTPFetcher, checkpoint *flog.Checkpoint) error {
	hashes, err := client.FetchLeafHashes(ctx, fetcher.ReadTile, 0, checkpoint.Size, checkpoint.Size)
	if err != nil {
		return err
	}
	builder, err := client.NewProofBuilder(ctx, checkpoint.Size, fetcher.ReadTile)
	if err != nil {
		return err
	}
	for i, hash := range hashes {
		path, err := builder.InclusionProof(ctx, uint64(i))
		if err != nil {
			return err
		}
		if err := proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(i), checkpoint.Size, hash, path, checkpoint.Hash); err != nil {
			return fmt.Errorf("leaf %d: %w", i, err)
		}
	}
	fmt.Printf("inclusion %d\n", len(hashes))
	for size := uint64(1); size < checkpoint.Size; size++ {
		older, err := client.NewProofBuilder(ctx, size, fetcher.ReadTile)
		if err != nil {
			return err
		}
		path, err := builder.ConsistencyProof(ctx, size, checkpoint.Size)
		if err != nil {
			return err
		}
		// The last leaf of the older tree leads to its root.
		last, err := older.InclusionProof(ctx, size-1)
		if err != nil {
			return err
		}
		root, err := proof.RootFromInclusionProof(rfc6962.DefaultHasher, size-1, size, hashes[size-1], last)
		if err != nil {
			return err
		}
		if err := proof.VerifyConsistency(rfc6962.DefaultHasher, size, checkpoint.Size, path, root, checkpoint.Hash); err != nil {
			return fmt.Errorf("size %d: %w", size, err)
		}
	}
	fmt.Printf("consistency %d\n", checkpoint.Size-1)
	return nil
}

// withSumdb does the same with Go's own implementation, which authenticates each tile against the root.
func withSumdb(prefix string, checkpoint *flog.Checkpoint) error {
	tree := tlog.Tree{N: int64(checkpoint.Size), Hash: tlog.Hash(checkpoint.Hash)}
	reader := tlog.TileHashReader(tree, tiles{prefix})
	for i := int64(0); i < tree.N; i++ {
		hashes, err := reader.ReadHashes([]int64{tlog.StoredHashIndex(0, i)})
		if err != nil {
			return err
		}
		path, err := tlog.ProveRecord(tree.N, i, reader)
		if err != nil {
			return err
		}
		if err := tlog.CheckRecord(path, tree.N, tree.Hash, i, hashes[0]); err != nil {
			return fmt.Errorf("leaf %d: %w", i, err)
		}
	}
	fmt.Printf("tiles authenticated, %d leaves\n", tree.N)
	return nil
}

type tiles struct{ prefix string }

func (tiles) Height() int { return 8 }

func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var read [][]byte
	for _, tile := range wanted {
		// The C2SP paths are those of tiles of height 8, without saying so.
		path := "tile" + tile.Path()[len("tile/8"):]
		octets, err := get(t.prefix + "/" + path)
		if err != nil {
			return nil, err
		}
		if len(octets) != tile.W*tlog.HashSize {
			return nil, fmt.Errorf("%s has %d octets", path, len(octets))
		}
		read = append(read, octets)
	}
	return read, nil
}

func (tiles) SaveTiles([]tlog.Tile, [][]byte) {}

// cosigned verifies the checkpoint that witnesses cosigned, by every one of them.
func cosigned(prefix string, verifier note.Verifier, vkeys []string) error {
	if len(vkeys) == 0 {
		return nil
	}
	raw, err := get(prefix + "/checkpoint.witnessed")
	if err != nil {
		return err
	}
	var witnesses []note.Verifier
	for _, vkey := range vkeys {
		witness, err := fnote.NewVerifierForCosignatureV1(vkey)
		if err != nil {
			return fmt.Errorf("a witness's vkey: %w", err)
		}
		witnesses = append(witnesses, witness)
	}
	checkpoint, _, opened, err := flog.ParseCheckpoint(raw, verifier.Name(), verifier, witnesses...)
	if err != nil {
		return err
	}
	for _, witness := range witnesses {
		by := func(s note.Signature) bool { return s.Name == witness.Name() && s.Hash == witness.KeyHash() }
		if !slices.ContainsFunc(opened.Sigs, by) {
			return fmt.Errorf("no cosignature by %s", witness.Name())
		}
	}
	fmt.Printf("cosigned %d by %d\n", checkpoint.Size, len(witnesses))
	return nil
}

func readProof(file, vkey string) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return fmt.Errorf("the log's vkey: %w", err)
	}
	var parsed fproof.TLogProof
	if err := parsed.Unmarshal(raw); err != nil {
		return err
	}
	if !bytes.Equal(parsed.Marshal(), raw) {
		return fmt.Errorf("the proof is not as this library writes it")
	}
	checkpoint, _, _, err := flog.ParseCheckpoint(parsed.Checkpoint, verifier.Name(), verifier)
	if err != nil {
		return err
	}
	var path [][]byte
	for _, hash := range parsed.Hashes {
		path = append(path, hash[:])
	}
	hash := rfc6962.DefaultHasher.HashLeaf(parsed.ExtraData)
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, parsed.Index, checkpoint.Size, hash, path, checkpoint.Hash); err != nil {
		return err
	}
	fmt.Printf("leaf %d of %d proven\n", parsed.Index, checkpoint.Size)
	return nil
}

func get(url string) ([]byte, error) {
	response, err := http.Get(url)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, response.Status)
	}
	return io.ReadAll(io.LimitReader(response.Body, 1<<20))
}
