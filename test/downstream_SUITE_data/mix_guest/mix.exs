defmodule MixGuest.MixProject do
  use Mix.Project

  def project do
    [
      app: :mix_guest,
      version: "0.1.0",
      deps: [{:erlang_python, git: "@URL@", branch: "main"}]
    ]
  end

  def application do
    [extra_applications: [:logger]]
  end
end
