"""One file is one kind of key, named by its URI scheme. One public class each, with `open(uri, ask)`."""
