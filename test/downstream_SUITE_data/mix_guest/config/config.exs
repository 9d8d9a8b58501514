import Config

config :erlang_python,
  pools: %{default: %{workers: 1, none: nil, python_path: [{:priv, :mix_guest, "python"}]}}
