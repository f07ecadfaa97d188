"""The dialects of older services: XML-RPC, the data manager, the machine status manager."""
