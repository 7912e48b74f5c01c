package main

import (
	"encoding/hex"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"

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
			key, err := parsePrivateKey(path, data, func() ([]byte, error) {
				return readSecret(c.Context, passwordOption, c.String(passwordOption), fmt.Sprintf("password of %q", path), askSecret)
			})
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
