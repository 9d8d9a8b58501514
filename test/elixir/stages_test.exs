{page, _dir} = Application.fetch_env!(:erlang_python_elixir, :page)
Page.compile(page)

defmodule StagesTest do
  @moduledoc "The LiveView and the producer of docs/elixir.md do what they say."
  use ExUnit.Case

  setup_all do
    {:ok, _} = :py.start_pool(:llm, workers: 1, none: nil, python_path: [Path.join(__DIR__, "python")])
    on_exit(fn -> :py.stop_pool(:llm) end)
  end

  defp mounted do
    {:ok, socket} = MyAppWeb.AnswerLive.mount(%{}, %{}, struct(Phoenix.LiveView.Socket))
    socket
  end

  defp event(socket, name, params \\ %{}) do
    {:noreply, socket} = MyAppWeb.AnswerLive.handle_event(name, params, socket)
    socket
  end

  # Hands each message to the LiveView until its answer is complete.
  defp answered(%{assigns: %{ref: nil}} = socket), do: socket

  defp answered(socket), do: socket |> one_event() |> answered()

  defp one_event(socket) do
    event = receive do: ({:py_stream, _ref, _event} = event -> event)
    {:noreply, socket} = MyAppWeb.AnswerLive.handle_info(event, socket)
    socket
  end

  test "an answer comes token by token" do
    socket = mounted() |> event("ask", %{"prompt" => "to be"}) |> answered()
    assert socket.assigns.answer == "to be "
    assert inspect(MyAppWeb.AnswerLive.render(socket.assigns)) =~ "to be "
  end

  test "stop ends it, and a new question replaces it" do
    stopped = mounted() |> event("ask", %{"prompt" => "forever"}) |> one_event() |> event("stop") |> answered()
    assert stopped.assigns.flash == %{}
    assert_receive :closed, 5000

    socket = mounted() |> event("ask", %{"prompt" => "forever"}) |> event("ask", %{"prompt" => "or not"}) |> answered()
    assert socket.assigns.answer == "or not "
  end

  test "an error is shown" do
    socket = mounted() |> event("ask", %{"prompt" => "fail"}) |> answered()
    assert Enum.map(socket.assigns.flash, fn {kind, text} -> {to_string(kind), text} end) == [{"error", "ValueError: no answer"}]
  end

  test "a producer gives as many values as are asked for" do
    {:ok, stage} = PythonProducer.start_link({:builtins, :range, [4]})
    monitor = Process.monitor(stage)
    assert demanded(stage, 2) == [0, 1]
    assert demanded(stage, 1) == [2]
    send(stage, {:demand, 5, self()})
    assert_receive {:events, [3]}, 5000
    assert_receive {:DOWN, ^monitor, :process, ^stage, :normal}, 5000
    refute_received {:events, _}
  end

  defp demanded(stage, number) do
    send(stage, {:demand, number, self()})
    for _ <- 1..number, do: receive(do: ({:events, [value]} -> value))
  end
end
