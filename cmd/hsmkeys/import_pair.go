package main

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"
	"github.com/youmark/pkcs8"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob/capi"
	"github.com/hsmkeys/hsmkeys/token"
)

func importPairCommand() *cli.Command {
	return &cli.Command{
		Name: "import-pair", Usage: "put a pair from a file on the token", ArgsUsage: "FILE",
		Description: "FILE is PKCS #8 (PEM or DER, encrypted or not), PKCS #12 or a PRIVATEKEYBLOB of CryptoAPI, with an RSA\n" +
			"or EC key. A key that has been in a file is not as good as one that was born on the token.",
		Flags: []cli.Flag{&cli.StringFlag{Name: "label", Value: defaultLabel, Usage: "`LABEL` of the pair"}},
		Action: func(c *cli.Context) error {
			path, err := oneArgument(c, "the FILE of the pair")
			if err != nil {
				return err
			}
			data, err := readKeyFile(path)
			if err != nil {
				return err
			}
			defer clear(data)
			key, err := parsePrivateKey(c, path, data)
			if err != nil {
				return err
			}
			return withToken(c, func(t *token.Token, _ token.Selector) error {
				pair, err := t.ImportPair(c.Context, c.String("label"), key)
				if err != nil {
					return err
				}
				note("this key has been in a file, so it is not as good as one that was born on the token: whoever has a copy opens and signs as the token does. Destroy the copies")
				id := hex.EncodeToString(pair.ID())
				if c.Bool("json") {
					return printJSON(struct {
						Label string `json:"label"`
						ID    string `json:"id"`
					}{pair.Label(), id})
				}
				return printLine("pair %s imported, id %s; hsmkeys init --adopt %s founds a keyring with it", printable(pair.Label()), id, printable(pair.Label()))
			})
		},
	}
}

// maxKeyFile bounds what is read, in bytes.
const maxKeyFile = 1 << 20

func readKeyFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err == nil && len(data) > maxKeyFile {
		err = usage("%q has more than %d bytes", path, maxKeyFile)
	}
	if err != nil {
		clear(data)
		return nil, err
	}
	return data, nil
}

// parsePrivateKey finds out what a file is from how it begins. No error has anything of
// the key in it.
func parsePrivateKey(c *cli.Context, path string, data []byte) (crypto.Signer, error) {
	if capi.IsPrivateKeyBlob(data) {
		key, err := capi.ParsePrivateKeyBlob(data)
		if err != nil {
			return nil, usage("%q: %v", path, err)
		}
		return key, nil
	}
	if block, _ := pem.Decode(data); block != nil {
		defer clear(block.Bytes)
		switch block.Type {
		case "PRIVATE KEY", "ENCRYPTED PRIVATE KEY":
			data = block.Bytes
		default:
			return nil, usage("%q holds a PEM block of type %q, not PRIVATE KEY or ENCRYPTED PRIVATE KEY (openssl pkcs8 -topk8 makes them)", path, block.Type)
		}
	}
	if key, err := x509.ParsePKCS8PrivateKey(data); err == nil {
		return signer(path, key)
	}
	if !bytes.HasPrefix(data, []byte{0x30}) {
		return nil, usage("%q is neither PKCS #8 nor PKCS #12 nor a PRIVATEKEYBLOB", path)
	}
	password, err := readSecret(c.Context, passwordOption, c.String(passwordOption), fmt.Sprintf("password of %q", path), askSecret)
	if err != nil {
		return nil, err
	}
	defer clear(password)
	key, err := decryptPrivateKey(data, password)
	switch {
	case errors.Is(err, hsmkeys.ErrPassword):
		return nil, fmt.Errorf("%q: %w", path, err)
	case err != nil:
		return nil, usage("%q is not read as PKCS #8 or PKCS #12: %v", path, err)
	}
	return signer(path, key)
}

// decryptPrivateKey tries the two formats that are encrypted. The one that the file is
// not in says that it is not DER of that form; a wrong password says so.
func decryptPrivateKey(data, password []byte) (any, error) {
	key, _, _, err := pkcs12.DecodeChain(data, string(password))
	if err == nil {
		return key, nil
	}
	if errors.Is(err, pkcs12.ErrIncorrectPassword) {
		return nil, hsmkeys.ErrPassword
	}
	key, pkcs8Err := pkcs8.ParsePKCS8PrivateKey(data, password)
	if pkcs8Err == nil {
		return key, nil
	}
	// pkcs8 knows a wrong password by what comes out, and has no error of its own for it.
	if pkcs8Err.Error() == "pkcs8: incorrect password" {
		return nil, hsmkeys.ErrPassword
	}
	return nil, err
}

func signer(path string, key any) (crypto.Signer, error) {
	s, ok := key.(crypto.Signer)
	if !ok {
		return nil, usage("%q holds a key of type %T, which does not sign", path, key)
	}
	return s, nil
}
