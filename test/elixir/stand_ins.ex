# In place of packages that need not be installed: the callbacks that the page's modules have, and as
# much of the rest as runs them in one process. Each stands back where the package is there.

unless Code.ensure_loaded?(Phoenix.LiveView) do
  defmodule Phoenix.LiveView.Socket do
    defstruct assigns: %{flash: %{}}
  end

  defmodule Phoenix.Component do
    defmacro sigil_H({:<<>>, _meta, [text]}, []), do: EEx.compile_string(text, engine: EEx.SmartEngine)

    def assign(socket, pairs), do: %{socket | assigns: Enum.into(pairs, socket.assigns)}
    def update(socket, key, fun), do: %{socket | assigns: Map.update!(socket.assigns, key, fun)}
  end

  defmodule Phoenix.LiveView do
    @type socket :: %Phoenix.LiveView.Socket{}

    @callback mount(params :: map | :not_mounted_at_router, session :: map, socket) ::
                {:ok, socket} | {:ok, socket, keyword}
    @callback render(assigns :: map) :: term
    @callback handle_event(event :: binary, params :: map, socket) :: {:noreply, socket} | {:reply, map, socket}
    @callback handle_info(message :: term, socket) :: {:noreply, socket}
    @optional_callbacks mount: 3, render: 1, handle_event: 3, handle_info: 2

    defmacro __using__(_options) do
      quote do
        @behaviour Phoenix.LiveView
        import Phoenix.LiveView
        import Phoenix.Component
      end
    end

    def put_flash(socket, kind, text), do: put_in(socket.assigns.flash[kind], text)
  end
end

unless Code.ensure_loaded?(GenStage) do
  defmodule GenStage do
    @type next :: {:noreply, events :: [term], state :: term} | {:stop, reason :: term, state :: term}

    @callback init(argument :: term) :: {:producer, state :: term} | {:stop, reason :: term} | :ignore
    @callback handle_demand(demand :: pos_integer, state :: term) :: next
    @callback handle_info(message :: term, state :: term) :: next
    @optional_callbacks handle_demand: 2, handle_info: 2

    defmacro __using__(_options), do: quote(do: @behaviour(GenStage))

    # A producer whose one consumer says `{:demand, number, consumer}`, and gets `{:events, events}`.
    use GenServer

    def start_link(module, argument), do: GenServer.start_link(__MODULE__, {module, argument})

    @impl GenServer
    def init({module, argument}) do
      {:producer, state} = module.init(argument)
      {:ok, {module, nil, state}}
    end

    @impl GenServer
    def handle_info({:demand, number, consumer}, {module, _, state}) do
      next(module.handle_demand(number, state), module, consumer)
    end

    def handle_info(message, {module, consumer, state}), do: next(module.handle_info(message, state), module, consumer)

    defp next({:noreply, events, state}, module, consumer) do
      if events != [], do: send(consumer, {:events, events})
      {:noreply, {module, consumer, state}}
    end

    defp next({:stop, reason, state}, module, consumer), do: {:stop, reason, {module, consumer, state}}
  end
end

unless Code.ensure_loaded?(Broadway) do
  defmodule Broadway.Message do
    @enforce_keys [:data, :acknowledger]
    defstruct [:data, :acknowledger, batcher: :default, metadata: %{}, status: :ok]
  end

  defmodule Broadway do
    @callback handle_message(processor :: atom, %Broadway.Message{}, context :: term) :: %Broadway.Message{}

    defmacro __using__(_options), do: quote(do: @behaviour(Broadway))

    def start_link(_module, options), do: {:error, {:stand_in, options}}
  end
end
